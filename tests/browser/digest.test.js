import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { onBothBackEnds, open, profile } from './example.js';

const heidi = { username: 'heidi', password: 'a song on the summit' };

/** A way to a server on which all that the browser sends is overheard. */
async function overheardWay(url) {
  const { hostname, port } = new URL(url);
  const heard = [];
  const way = createServer((client) => {
    const server = connect(port, hostname);
    for (const socket of [client, server]) socket.on('error', () => { client.destroy(); server.destroy(); });
    client.on('data', (data) => heard.push(data.toString('latin1')));
    client.pipe(server).pipe(client);
  });
  way.listen(0, '127.0.0.1');
  await once(way.unref(), 'listening');
  return { url: `http://127.0.0.1:${way.address().port}/`, heard: () => heard.join('') };
}

onBothBackEnds('the browser proves that it knows the password, and does not send it', 'digest', [], async ({ url }) => {
  const way = await overheardWay(url);
  const page = await open(way.url, { httpCredentials: heidi });
  const greeting = 'Hello, heidi! You were proved by digest.';
  assert.equal(await page.textContent('body'), greeting);
  await page.reload();
  assert.equal(await page.textContent('body'), greeting);
  const sent = [...way.heard().matchAll(/^Authorization: (.*)\r$/gim)].map(([, value]) => value);
  assert.ok(sent.length >= 2);
  for (const value of sent) {
    assert.match(value, /^Digest username="heidi", realm="Mountain hut", .*algorithm=SHA-256, .*qop=auth, /);
  }
  // The same nonce with another count: what was overheard before is of no use.
  const counts = sent.map((value) => /nc=(\d+)/.exec(value)[1]);
  assert.equal(new Set(counts).size, counts.length, counts);
  assert.ok(!way.heard().includes(heidi.password) && !way.heard().includes('Basic'));
  // Chromium may have asked for its favicon as well; what was said for one target is malformed for another.
  const ofThePage = sent.findLast((value) => value.includes('uri="/"'));
  const replayed = await fetch(url, { headers: { authorization: ofThePage } });
  assert.equal(replayed.status, 401);
});

onBothBackEnds('a wrong password is refused, and so is nobody', 'digest', [], async (server) => {
  for (const options of [{}, { httpCredentials: { ...heidi, password: 'a song in the valley' } }]) {
    const page = await (await profile(options)).newPage();
    const answer = page.waitForEvent('response');
    // Chromium without a window has no place to ask for a password: that is an error of its own.
    await page.goto(server.url).catch(() => {});
    const response = await answer;
    assert.equal(response.status(), 401);
    assert.match(response.headers()['www-authenticate'], /^Digest realm="Mountain hut", .*algorithm=SHA-256/);
    assert.equal(server.log.includes('login_failed'), 'httpCredentials' in options);
  }
});
