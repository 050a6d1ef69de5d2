/** The text of the bus server's configuration. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderConfig } from './configure.ts';

const options = {
  port: 4222,
  monitoringPort: 8222,
  storeDir: '/data/nats',
  pidFile: '/run/nats.pid',
  serverName: 'codegod',
};

describe('the configuration of the bus server', () => {
  it('syncs every write and listens on this machine only', () => {
    const text = renderConfig(options);
    assert.match(text, /^ {2}sync_interval: always$/m);
    assert.match(text, /^host: "127\.0\.0\.1"$/m);
    assert.match(text, /^http: "127\.0\.0\.1:8222"$/m);
    assert.doesNotMatch(text, /authorization/);
  });

  it('writes awkward paths and tokens so that they cannot end their quotes', () => {
    const text = renderConfig({ ...options, storeDir: 'C:\\d "x"', token: 'a"b\\c\n\u0001' });
    assert(text.includes('store_dir: "C:\\\\d \\"x\\""'));
    assert(text.includes('token: "a\\"b\\\\c\\x0a\\x01"'));
  });

  it('never opens the network without a token', () => {
    assert.throws(() => renderConfig({ ...options, host: '0.0.0.0' }), /needs a token/);
    assert.match(renderConfig({ ...options, host: '0.0.0.0', token: 't' }), /host: "0\.0\.0\.0"/);
  });
});
