
    import { withLock } from "/work/wt/vo-gateway/e2e/sites/lock.ts";
    await withLock("/tmp/lock-test-npg3k8/lock", async () => {
      console.log('held');
      await new Promise((resolve) => setTimeout(resolve, 60_000));
    });