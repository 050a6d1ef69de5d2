/** The text of the bus server's configuration. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderConfig } from './configure.ts';

const options = {
  host: '127.0.0.1',
  port: 4222,
  monitoringPort: 8222,
  monitoringPath: '/secret',
  storeDir: '/data/nats',
  maxFileStoreBytes: 1_000,
  pidFile: '/run/nats.pid',
  serverName: 'codegod',
  usersFile: 'users.conf',
};

describe('the configuration of the bus server', () => {
  it('syncs every write and listens where it is told', () => {
    const text = renderConfig(options);
    assert.match(text, /^ {2}sync_interval: always$/m);
    assert.match(text, /^ {2}max_file_store: 1000$/m);
    assert.match(text, /^host: "127\.0\.0\.1"$/m);
    assert.match(text, /^include "\.\/users\.conf"$/m);
  });

  it('shows its monitoring to this machine only, whatever it listens on', () => {
    const text = renderConfig({ ...options, host: '0.0.0.0' });
    assert.match(text, /^http: "127\.0\.0\.1:8222"$/m);
    assert.match(text, /^http_base_path: "\/secret"$/m);
  });

  it('writes awkward paths so that they cannot end their quotes', () => {
    const text = renderConfig({ ...options, storeDir: 'C:\\d "x"\u0001' });
    assert(text.includes('store_dir: "C:\\\\d \\"x\\"\\x01"'));
  });
});
