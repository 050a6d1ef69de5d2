/** Goal: no way of writing an inside address passes for an outside one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPublicAddress } from './private-address.ts';

test('addresses of the public internet are public', () => {
  for (const address of [
    '93.184.216.34',
    '8.8.8.8',
    '172.15.255.255',
    '172.32.0.1',
    '100.128.0.1',
    '2606:2800:220:1:248:1893:25c8:1946',
    '2001:4860:4860::8888',
    '::ffff:93.184.216.34',
    '64:ff9b::5db8:d822',
    '[2606:2800::1]',
  ]) {
    assert.equal(isPublicAddress(address), true, address);
  }
});

test('this machine, the house, special ranges and what is no address are not', () => {
  for (const address of [
    '127.0.0.1',
    '10.1.2.3',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '198.18.0.1',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::127.0.0.1',
    '64:ff9b::7f00:1',
    '2002:7f00:1::',
    '2001:db8::1',
    'fe80::1%eth0',
    'fc00::1',
    'fd12::1',
    'ff02::1',
    '1.2.3',
    '1.2.3.4.5',
    '0x7f.1',
    '01.2.3.4',
    '1:2:3',
    ':::1',
    'example.com',
    '',
  ]) {
    assert.equal(isPublicAddress(address), false, address);
  }
});
