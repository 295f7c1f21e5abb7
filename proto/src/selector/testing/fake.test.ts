import { describe } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { testCompliance, complianceNodes } from './compliance.ts';
import { FakeResourceSelection } from './fake.ts';

describe('the fake of resource selection', () => {
  const selection = new FakeResourceSelection(systemClock, complianceNodes);
  testCompliance(() => ({
    selection,
    deadAddress: 'nowhere.fake:7946',
    now: () => systemClock.now(),
    crash: async (node) => selection.crash(node),
  }));
});
