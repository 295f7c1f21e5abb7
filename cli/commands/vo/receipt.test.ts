import { expect, test } from '@jest/globals';
import { receiptText } from './receipt.ts';

const aReceipt = (content: object): string => `e30.${Buffer.from(JSON.stringify(content)).toString('base64url')}.c2ln`;
const whole = {
  completedTime: '2026-11-26T20:33:30Z',
  data: 'Erase',
  removed: [
    { resource: 'vomemberships.xtreemos.io', count: 2 },
    { resource: 'pods', count: 0 },
  ],
  volumes: [],
};

test.each([
  [
    'what is gone, and that there were no volumes',
    aReceipt(whole),
    'signed at 2026-11-26T20:33:30Z that gone are 2 vomemberships.xtreemos.io; no volumes (the receipt: -o yaml)',
  ],
  [
    'which volumes were set aside',
    aReceipt({ ...whole, removed: [], data: 'Export', volumes: [{ name: 'runs', size: '1Gi' }] }),
    'signed at 2026-11-26T20:33:30Z that nothing was there; volumes set aside for the owner of the site: runs (the receipt: -o yaml)',
  ],
  [
    'what became of each home, and where kept files are',
    aReceipt({
      ...whole,
      removed: [],
      data: 'Export',
      volumes: [
        {
          name: 'xtreemos-1',
          claim: 'home-u-ann-1',
          size: '1Gi',
          outcome: 'Retained',
          location: 'vol-1 on FileSystem a/b',
        },
        { name: 'xtreemos-2', claim: 'home-u-bob-2', size: '1Gi', outcome: 'Erased' },
      ],
    }),
    'signed at 2026-11-26T20:33:30Z that nothing was there; Volumes erased: home-u-bob-2; files kept at the MRC: home-u-ann-1 (vol-1 on FileSystem a/b) (the receipt: -o yaml)',
  ],
  ['that it is of another version', aReceipt({ ...whole, data: 'Forget' }), expect.stringContaining('-o yaml has it')],
  ['that it is none', 'scribble', expect.stringContaining('-o yaml has it')],
])('a receipt says %s', (_, receipt, words) => {
  expect(receiptText(receipt)).toEqual(words);
});
