/** A machine without a sandbox is told its own reason, and what helps there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sandboxTrouble } from './sandbox-trouble.ts';

const UBUNTU = {
  '/proc/sys/kernel/apparmor_restrict_unprivileged_userns': '1\n',
  '/proc/sys/user/max_user_namespaces': '63000\n',
  '/etc/os-release': 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n',
};
const trouble = (
  files: Readonly<Record<string, string>>,
  more: { hasBubblewrap?: boolean; isRoot?: boolean } = {},
) =>
  sandboxTrouble({
    ...{
      hasBubblewrap: true,
      isRoot: false,
      platform: 'linux',
      said: 'Permission denied',
      ...more,
    },
    read: path => files[path] ?? null,
  });

test('Ubuntu with bubblewrap installed is not told to install it', () => {
  const { reason, fix } = trouble(UBUNTU);
  assert.match(reason, /^AppArmor forbids user namespaces/);
  assert.match(fix, /^printf .*userns.*apparmor_parser/);
  assert.doesNotMatch(fix, /apt-get/);
  const bare = trouble(UBUNTU, { hasBubblewrap: false });
  assert.match(bare.reason, /^bubblewrap is not installed, and AppArmor/);
  assert.match(bare.fix, /^sudo apt-get install bubblewrap && printf/);
});

test('switched off namespaces name the switch', () => {
  const off = { '/proc/sys/user/max_user_namespaces': '0\n' };
  assert.match(trouble(off).reason, /max_user_namespaces=0/);
  assert.match(trouble(off, { isRoot: true }).fix, /sysctl -w user\.max_user_namespaces/);
  const clone = { '/proc/sys/kernel/unprivileged_userns_clone': '0\n' };
  assert.match(trouble(clone).fix, /unprivileged_userns_clone=1/);
  assert.doesNotMatch(trouble(clone, { isRoot: true }).reason, /clone/);
});

test('a missing bubblewrap is installed as that system installs', () => {
  const missing = { hasBubblewrap: false };
  assert.equal(trouble({}, missing).fix, 'sudo apt-get install bubblewrap');
  const fedora = { '/etc/os-release': 'ID=nobara\nID_LIKE="rhel centos fedora"\n' };
  assert.equal(trouble(fedora, missing).fix, 'sudo dnf install bubblewrap');
});

test('a container, another system and an unknown refusal say what is known', () => {
  assert.match(trouble({ '/.dockerenv': '' }).fix, /--security-opt/);
  assert.match(trouble({}).reason, /it was refused: Permission denied/);
  const mac = sandboxTrouble({ hasBubblewrap: false, said: '', platform: 'darwin' });
  assert.match(mac.fix, /--no-sandbox/);
});
