// Command runtime is the baseline of `make bench-runtime`: a trivial controller written with controller-runtime. It
// writes status.observed[run] of each Widget once, notes how long each change took to reach it, and prints what it
// measured as one line of JSON when it is asked to stop (SIGTERM).
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

var groupVersion = schema.GroupVersion{Group: "bench.xtreemos.io", Version: "v1"}

// WidgetSpec carries the moment at which the harness wrote it, in microseconds since the epoch.
type WidgetSpec struct {
	StampUs int64  `json:"stampUs"`
	Payload string `json:"payload,omitempty"`
}

// WidgetStatus is what the controller writes.
type WidgetStatus struct {
	// Observed is the generation that each run of the benchmark has seen, by the run's name.
	Observed map[string]int64 `json:"observed,omitempty"`
}

// Widget is the kind that is reconciled.
type Widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              WidgetSpec   `json:"spec,omitempty"`
	Status            WidgetStatus `json:"status,omitempty"`
}

// DeepCopyObject implements runtime.Object.
func (w *Widget) DeepCopyObject() runtime.Object {
	out := &Widget{TypeMeta: w.TypeMeta, Spec: w.Spec, Status: WidgetStatus{Observed: maps.Clone(w.Status.Observed)}}
	w.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	return out
}

// WidgetList is a list of widgets.
type WidgetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Widget `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *WidgetList) DeepCopyObject() runtime.Object {
	out := &WidgetList{TypeMeta: l.TypeMeta, ListMeta: l.ListMeta, Items: make([]Widget, len(l.Items))}
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*Widget)
	}
	return out
}

// report is what is printed at the end.
type report struct {
	Reconciles  int       `json:"reconciles"`
	FirstMs     float64   `json:"firstMs"`
	LastMs      float64   `json:"lastMs"`
	LatenciesMs []float64 `json:"latenciesMs"`
}

type reconciler struct {
	client client.Client
	run    string
	mu     sync.Mutex
	report report
	seen   map[string]struct{}
	expect map[int]struct{}
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var widget Widget
	if err := r.client.Get(ctx, request.NamespacedName, &widget); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if widget.Status.Observed[r.run] == widget.Generation {
		return ctrl.Result{}, nil
	}
	started := time.Now()
	latency := float64(started.UnixMicro()-widget.Spec.StampUs) / 1000
	body := fmt.Sprintf(`{"status":{"observed":{%q:%d}}}`, r.run, widget.Generation)
	if err := r.client.Status().Patch(ctx, &widget, client.RawPatch(types.MergePatchType, []byte(body))); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := fmt.Sprintf("%s/%d", widget.Name, widget.Generation)
	if _, known := r.seen[key]; known {
		return ctrl.Result{}, nil
	}
	r.seen[key] = struct{}{}
	if r.report.Reconciles == 0 {
		r.report.FirstMs = float64(started.UnixMicro()) / 1000
	}
	r.report.Reconciles++
	r.report.LastMs = float64(time.Now().UnixMicro()) / 1000
	r.report.LatenciesMs = append(r.report.LatenciesMs, latency)
	if _, awaited := r.expect[r.report.Reconciles]; awaited {
		fmt.Printf("reached %d %f\n", r.report.Reconciles, r.report.LastMs)
	}
	return ctrl.Result{}, nil
}

func run() error {
	host := flag.String("host", "", "URL of the API server")
	tokenFile := flag.String("token-file", "", "file with a bearer token")
	caFile := flag.String("ca-file", "", "file with the API server's authority")
	namespace := flag.String("namespace", "", "the one namespace to watch")
	concurrency := flag.Int("concurrency", 16, "reconciles at the same time")
	expect := flag.String("expect", "", "counts of reconciles to tell about, with commas between")
	name := flag.String("run", "", "name of this run: the key written in status.observed")
	flag.Parse()

	ctrl.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(groupVersion, &Widget{}, &WidgetList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
	config := &rest.Config{
		Host:            *host,
		BearerTokenFile: *tokenFile,
		TLSClientConfig: rest.TLSClientConfig{CAFile: *caFile},
		QPS:             -1, // No limit, as on the other side.
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Metrics: server.Options{BindAddress: "0"},
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{*namespace: {}},
			DefaultTransform:  cache.TransformStripManagedFields(),
		},
	})
	if err != nil {
		return err
	}
	r := &reconciler{client: manager.GetClient(), run: *name, seen: map[string]struct{}{}, expect: map[int]struct{}{}}
	for _, text := range strings.Split(*expect, ",") {
		count, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-expect %q: %w", *expect, err)
		}
		r.expect[count] = struct{}{}
	}
	err = ctrl.NewControllerManagedBy(manager).
		For(&Widget{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: *concurrency}).
		Complete(r)
	if err != nil {
		return err
	}
	if err := manager.Start(ctrl.SetupSignalHandler()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r.report)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
