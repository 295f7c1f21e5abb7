import { aVirtualOrganization } from '#operator/testing/builders.ts';
import { describeAuthority } from './testing/authority-compliance.ts';
import { MemoryAuthority } from './testing/memory-authority.ts';

describeAuthority('MemoryAuthority', async () => {
  const authority = new MemoryAuthority();
  let count = 0;
  const unknown = async () => Promise.resolve(aVirtualOrganization(`vo${++count}`));
  const found = async () => {
    const vo = await unknown();
    authority.found(vo);
    return vo;
  };
  return Promise.resolve({ authority, found, unknown });
});
