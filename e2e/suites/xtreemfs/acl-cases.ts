/** What access control lists mean, as scripts that have to say the same on any file system. */

/** A script for sh; it starts in an empty folder of its own, of mode 755, as root with umask 022. */
export interface AclCase {
  readonly name: string;
  readonly script: string;
}

/** Runs a command as one user with some groups and tells what became of it. */
const asUser = `
as() { ids=$1; shift; uid=\${ids%%:*}; gids=\${ids#*:}
  if setpriv --reuid "$uid" --regid "\${gids%%,*}" --groups "$gids" "$@" >/dev/null 2>&1
  then echo "$ids: $*: yes"; else echo "$ids: $*: no"; fi; }
show() { getfacl -n -p "$@" 2>&1; stat -c '%A %u:%g' "$@"; }
`;

const scripts: readonly (readonly [name: string, script: string])[] = [
  [
    'shows what was set, and what is left of it',
    `echo x > f; setfacl -m u:1001:rwx,u:1000:r,g:2000:rx f; show f; getfattr -m - f | grep -c posix_acl
     setfacl -x u:1001 f; show f; setfacl -b f; show f; getfattr -m - f | grep -c posix_acl; true`,
  ],
  [
    'lets in whom an entry names, as far as the mask goes',
    `echo x > f; chmod 640 f; setfacl -m u:1001:rw,g:2000:r,g:2001:w f
     for who in 1001:100 1002:2000 1002:2001 1002:2000,2001 1002:100 65534:65534; do
       as $who cat f; as $who sh -c 'echo y >> f'; as $who test -r f -a -w f; done
     setfacl -m m::r f; show f
     for who in 1001:100 1002:2001; do as $who cat f; as $who sh -c 'echo y >> f'; done`,
  ],
  [
    'keeps out whom an entry forbids, though others may',
    `echo x > f; chmod 644 f; setfacl -m u:1001:-,g:2000:- f
     as 1001:100 cat f; as 1002:2000 cat f; as 1002:100 cat f`,
  ],
  [
    'changes the mask by chmod, and the mode by the mask',
    `touch f; setfacl -m u:1001:rwx f; show f; chmod 600 f; show f; chmod g+rx f; show f; chmod 2755 f; show f
     setfacl -m m::r f; show f`,
  ],
  [
    'hands the default list down to files and directories, whatever the umask',
    `mkdir d; setfacl -d -m u:1001:rwx,g:2000:rx d; show d
     umask 077; echo x > d/f; mkdir d/e; mkfifo d/p; ln -s f d/s; show d/f d/e d/p; echo x > d/e/deep; show d/e/deep
     stat -c %A d/s; as 1001:100 cat d/f; umask 000; echo x > f; mkdir e; stat -c %A f e`,
  ],
  [
    'cuts the default list by the mode that a program asks for',
    `mkdir d; setfacl -d -m u:1001:rwx,o::rwx d
     perl -e 'use Fcntl; sysopen(F, "d/a", O_CREAT | O_WRONLY, 0600); sysopen(F, "d/b", O_CREAT | O_WRONLY, 0751); mkdir "d/c", 0500'
     show d/a d/b d/c`,
  ],
  [
    'has default lists without a mask, and takes them away',
    `mkdir d; setfacl -d -m u::rwx,g::r,o::- d; show d; umask 000; touch d/f; mkdir d/e; show d/f d/e
     setfacl -k d; show d; touch d/g; show d/g`,
  ],
  [
    'refuses lists of others, default lists of files, and lists that are none',
    `touch f; chown 1001 f; as 1002:100 setfacl -m u:1002:rwx f; as 1001:100 setfacl -m u:1002:rwx f
     setfacl -d -m u:1001:r f 2>/dev/null || echo no default list
     setfattr -n system.posix_acl_access -v 0x02000000 f 2>&1 | grep -o 'Invalid argument'
     setfattr -n system.posix_acl_access -v 0x0200000001000600ffffffff f 2>&1 | grep -o 'Invalid argument'; show f`,
  ],
  [
    'is searched through, listed and changed by those who may',
    `mkdir -m 700 d; echo x > d/f; setfacl -m u:1001:x d; as 1001:100 cat d/f; as 1001:100 ls d
     as 1001:100 touch d/new; setfacl -m u:1001:rwx d; as 1001:100 ls d; as 1001:100 touch d/new; as 1001:100 rm d/f
     as 1002:100 ls d`,
  ],
  [
    'takes set-group-ID away from a file when its owner is not of the group',
    `touch f; chown 1001:2000 f; chmod 2755 f; as 1001:100 setfacl -m u:1002:r f; show f
     chmod 2755 f; as 1001:2000 setfacl -m u:1003:r f; show f`,
  ],
  [
    'leaves alone what is immutable, and only adds to what is append-only',
    `try() { if "$@" >/dev/null 2>&1; then echo "$*: yes"; else echo "$*: no"; fi; }
     echo x > f; echo x > log; mkdir d; echo x > d/f; mkdir e; echo x > e/f
     chattr +i f d; chattr +a log e; lsattr -d f log d e | cut -c5,6
     for path in f log d e; do
       try chmod 700 $path; try setfattr -n user.a -v b $path; try setfacl -m u:1001:r $path; try mv $path moved
       try ln $path linked; try touch -d 2001-01-01 $path; done
     for path in f log; do try sh -c "echo y >> $path"; try sh -c "echo y > $path"; try truncate -s 0 $path; try rm -f $path; done
     for path in d e; do try touch $path/new; try rm -f $path/f; try mv $path/f $path/g; try mkdir $path/sub; done
     try cat f; as 1001:100 chattr -i f; chattr -i f d; chattr -a log e; lsattr -d f log d e | cut -c5,6; cat f log; ls d e
     try rm -rf f log d e`,
  ],
  [
    'goes along when a tree is copied or renamed',
    `mkdir d; setfacl -m u:1001:rx d; setfacl -d -m u:1001:rx d; echo x > d/f; setfacl -m g:2000:w d/f
     cp -a d copy; mv d moved; show moved moved/f copy copy/f; ls -ld moved | cut -c1-11`,
  ],
];

/** Every case. */
export const aclCases: readonly AclCase[] = scripts.map(([name, script]) => ({ name, script: asUser + script }));
