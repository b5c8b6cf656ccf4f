import assert from 'node:assert/strict';
import { onBothBackEnds, open, profile } from './example.js';

const john = { username: 'john', password: 'hello from john' };

onBothBackEnds('the browser asks for a password, and greets who knows it', 'auth_basic', [], async ({ url }) => {
  const page = await open(url, { httpCredentials: john });
  assert.equal(await page.textContent('body'), 'Hello, john!');
});

onBothBackEnds('a wrong password is refused, and so is nobody', 'auth_basic', [], async (server) => {
  for (const options of [{}, { httpCredentials: { ...john, password: 'hello from susan' } }]) {
    const page = await (await profile(options)).newPage();
    const answer = page.waitForEvent('response');
    // Chromium without a window has no place to ask for a password: that is an error of its own.
    await page.goto(server.url).catch(() => {});
    const response = await answer;
    assert.equal(response.status(), 401);
    assert.match(response.headers()['www-authenticate'], /^Basic realm="Hello"/);
    assert.equal(server.log.includes('login_failed'), 'httpCredentials' in options);
  }
});
