import { describe, expect, test } from '@jest/globals';
import { ServiceType, type Service } from '#proto/generated/xtreemfs/dir.ts';
import type { PeerIdentity } from '../rpc/peer.ts';
import { parseWriterRules, Writers } from './writers.ts';

const rules = parseWriterRules('--writers', 'osd/main-osd-/DNS:osd.main,mrc/main-mrc-/DNS:mrc.main');
const writers = new Writers({ rules, adminGroups: ['administrators'] });

function aPeer(alternativeNames: string[], organizationalUnits: string[] = []): PeerIdentity {
  const names = { subject: '', commonName: 'node-1', organizations: ['xtreemos'], fingerprint: '', holder: '' };
  return { address: '10.0.0.9', port: 1, certificate: { ...names, alternativeNames, organizationalUnits } };
}

const osd = aPeer(['DNS:osd.main']);
const mrc = aPeer(['DNS:mrc.main']);
const node = aPeer(['DNS:node-agent.xtreemos.io']);
const admin = aPeer([], ['administrators']);
const nobody: PeerIdentity = { address: '10.0.0.9', port: 1, certificate: undefined };
const volume = '6a6c3e8e-1c0b-4f3a-9d55-0a1b2c3d4e5f';
const stored = (type: ServiceType, uuid: string): Service => {
  return { type, uuid, name: uuid, version: 1, lastUpdatedS: 1, data: { data: [] } };
};

describe('threat 26: what a server is called counts for nothing, only its certificate', () => {
  test.each<[string, PeerIdentity, string, ServiceType | undefined]>([
    ['an OSD of itself', osd, 'main-osd-0.1a2b3c4d', ServiceType.OSD],
    ['an OSD where it is reached', osd, 'main-osd-0', undefined],
    ['an MRC of itself', mrc, 'main-mrc-0', ServiceType.MRC],
    ['an MRC of a volume', mrc, volume, ServiceType.VOLUME],
    ['an administrator of everything', admin, 'main-osd-0', ServiceType.OSD],
  ])('%s: is let', (_, peer, uuid, type) => {
    expect(() => writers.check(peer, uuid, undefined, type)).not.toThrow();
  });

  test.each<[string, PeerIdentity, string, ServiceType | undefined, Service | undefined]>([
    ['a node agent as an OSD', node, 'main-osd-0', ServiceType.OSD, undefined],
    ['a node agent as an OSD of another name', node, 'fresh', ServiceType.OSD, undefined],
    ['a node agent, where an OSD is reached', node, 'main-osd-0', undefined, stored(ServiceType.OSD, 'main-osd-0')],
    ['a node agent as a volume', node, volume, ServiceType.VOLUME, undefined],
    ['an OSD as the MRC', osd, 'main-mrc-0', ServiceType.MRC, undefined],
    ['an OSD under its own UUID as an MRC', osd, 'main-osd-0', ServiceType.MRC, undefined],
    ['an OSD as a volume', osd, volume, ServiceType.VOLUME, undefined],
    ['an OSD under a UUID that is not of its kind', osd, 'other-0', ServiceType.OSD, undefined],
    ['an MRC, a volume over an OSD', mrc, 'main-osd-0', ServiceType.VOLUME, stored(ServiceType.OSD, 'main-osd-0')],
    ['an MRC, a volume over something else', mrc, 'x', ServiceType.VOLUME, stored(ServiceType.DIR, 'x')],
    ['an MRC, something else over a volume', mrc, volume, ServiceType.OSD, stored(ServiceType.VOLUME, volume)],
    ['somebody without a certificate', nobody, 'main-osd-0', ServiceType.OSD, undefined],
    ['somebody with a name in the wrong place', aPeer(['URI:osd.main']), 'main-osd-0', ServiceType.OSD, undefined],
  ])('%s: is refused', (_, peer, uuid, type, before) => {
    expect(() => writers.check(peer, uuid, before, type)).toThrow(/may not write what the DIR says of/);
  });
});

test('without rules everybody writes, as with upstream', () => {
  expect(() => new Writers({ rules: [], adminGroups: [] }).check(nobody, 'any', undefined)).not.toThrow();
});

test.each(['osd', 'osd/a', 'dir/a/DNS:x', 'osd/a b/DNS:x', 'osd//DNS:x'])('a rule %p is refused', (rule) => {
  expect(() => parseWriterRules('--writers', rule)).toThrow(/--writers: .* is not KIND\/UUID-PREFIX\/NAME/);
});
