/** Builders of objects for tests: valid by themselves, with only what a test is about given. */
import { type Site, siteDefinition, type SiteStatus } from '#crds/site.ts';
import {
  type VirtualOrganization,
  virtualOrganizationDefinition,
  type VirtualOrganizationStatus,
} from '#crds/virtual-organization.ts';
import type { Node } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/types.ts';

interface NodeFacts {
  readonly isReady?: boolean;
  readonly isCordoned?: boolean;
  readonly isDeleting?: boolean;
  readonly capacity?: Readonly<Record<string, string>>;
  readonly allocatable?: Readonly<Record<string, string>>;
}

/** A node, ready unless told otherwise. */
export function aNode(name: string, facts: NodeFacts = {}): Node {
  const { isReady = true, isCordoned = false, isDeleting = false } = facts;
  const capacity = facts.capacity ?? { cpu: '4', memory: '8Gi', pods: '110' };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, ...(isDeleting ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}) },
    spec: { unschedulable: isCordoned },
    status: {
      capacity: { ...capacity },
      allocatable: { ...(facts.allocatable ?? capacity) },
      conditions: [{ type: 'Ready', status: isReady ? 'True' : 'Unknown' }],
    },
  };
}

/** A Site of type Local as the API server would return it. */
export function aLocalSite(name: string, status?: SiteStatus): Stored<Site> {
  const spec = siteDefinition.spec.parse({ type: 'Local', local: {} });
  return stored(name, spec, status);
}

/** A Site of type Peer as the API server would return it. */
export function aPeerSite(name: string, status?: SiteStatus): Stored<Site> {
  const bundle = '-----BEGIN CERTIFICATE-----\n';
  const peer = { address: `${name}.example.org:7443`, trustDomain: `${name}.example.org`, trustBundle: bundle };
  return stored(name, siteDefinition.spec.parse({ type: 'Peer', peer }), status);
}

/** A VirtualOrganization as the API server would return it: Operational, owned by alice of site `home`, unless told otherwise. */
export function aVirtualOrganization(
  name: string,
  spec: Readonly<Record<string, unknown>> = {},
  status?: VirtualOrganizationStatus,
): Stored<VirtualOrganization> {
  const administrators = [{ issuer: 'kubernetes:home', subject: 'alice' }];
  const parsed = virtualOrganizationDefinition.spec.parse({ state: 'Operational', administrators, ...spec });
  return {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'VirtualOrganization',
    metadata: metadataOf(name),
    spec: parsed,
    ...(status === undefined ? {} : { status }),
  };
}

function stored(name: string, spec: Site['spec'], status: SiteStatus | undefined): Stored<Site> {
  return {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'Site',
    metadata: metadataOf(name),
    spec,
    ...(status === undefined ? {} : { status }),
  };
}

function metadataOf(name: string): Stored<Site>['metadata'] {
  return {
    name,
    uid: `uid-${name}`,
    resourceVersion: '1',
    generation: 3,
    creationTimestamp: '2026-01-01T00:00:00Z',
  };
}
