import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually, neighbour, onBothBackEnds, open, otherSite, profile, run } from './example.js';

const PASSWORDS = { alice: 'wonderland is far', bob: 'builder of bridges', eve: 'the garden of eden' };

const enter = async (page, name, password = PASSWORDS[name]) => {
  await page.fill('[name=name]', name);
  await page.fill('[name=password]', password);
  await page.click('main button');
};
/** A page on which somebody is logged in. */
const loggedIn = async (url, name) => {
  const page = await open(url);
  await enter(page, name);
  await page.getByRole('link', { name }).waitFor();
  return page;
};
const notes = (page) => page.locator('article .text').allTextContents();
const write = async (page, text) => {
  await page.fill('textarea', text);
  await page.click('text=Write');
};
const status = (page, path, options) =>
  page.evaluate(async ([path, options]) => (await fetch(path, options)).status, [path, options]);

onBothBackEnds('a login, a note, and a logout after which nothing is left', 'secure_api', [], async ({ url }) => {
  const page = await open(url);
  assert.equal(page.url(), `${url}/login?next=%2F`);
  await enter(page, 'alice', 'wonderland is near');
  assert.equal(await page.textContent('[role=alert]'), 'the user name or the password is wrong');
  await enter(page, 'alice');
  await page.waitForURL(`${url}/`);
  await write(page, 'Lunch at noon');
  await eventually(async () => assert.equal((await notes(page))[0], 'Lunch at noon'));

  const cookies = await page.context().cookies();
  const session = cookies.find(({ name }) => name === '__Host-session');
  const { secure, httpOnly, sameSite, path } = session;
  assert.deepEqual({ secure, httpOnly, sameSite, path }, { secure: true, httpOnly: true, sameSite: 'Lax', path: '/' });
  assert.equal(await page.evaluate(() => document.cookie), '');

  await page.click('text=Log out');
  await page.waitForURL(`${url}/login`);
  await page.goBack();
  await page.waitForURL(`${url}/login?next=%2F`);
  const thief = await profile();
  await thief.addCookies([session]);
  const stolen = await thief.newPage();
  await stolen.goto(url);
  assert.equal(stolen.url(), `${url}/login?next=%2F`);
  assert.deepEqual(page.complaints, ['Failed to load resource: the server responded with a status of 401 (Unauthorized)']);
});

onBothBackEnds('a login leads nowhere else', 'secure_api', [], async ({ url }) => {
  for (const next of ['//elsewhere.example/', '/\\elsewhere.example', 'https://elsewhere.example/']) {
    const page = await open(`${url}/login?next=${encodeURIComponent(next)}`);
    await enter(page, 'bob');
    await page.waitForURL(`${url}/`);
  }
});

onBothBackEnds('a form that another site sends is refused', 'secure_api', [], async ({ url }) => {
  const page = await loggedIn(url, 'alice');
  const form = `<!doctype html><form method="post" action="${url}/notes"><input name="text" value="forged"></form>
    <script>document.forms[0].submit()</script>`;
  // One of another site, and one on another port of the same host, to which the browser sends the cookie along.
  for (const [site, from] of [[await otherSite(form), 'cross-site'], [await neighbour(form), 'same-site']]) {
    const answer = page.waitForResponse(`${url}/notes`);
    await page.goto(site);
    const response = await answer;
    const headers = await response.request().allHeaders();
    assert.equal(response.status(), 403);
    assert.equal(headers['sec-fetch-site'], from);
    assert.equal('cookie' in headers, from === 'same-site');
    await page.getByText('403: Forbidden').waitFor();
  }
  // Its own pages have a token, without which they may not either.
  await page.goto(url);
  const body = 'text=forged';
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  assert.equal(await status(page, '/notes', { method: 'POST', headers, body }), 403);
  assert.equal(await status(page, '/notes', { method: 'POST', headers, body: `${body}&csrf_token=made+up` }), 403);
  assert.ok(!(await notes(page)).includes('forged'));
  await page.click('text=Audit log');
  assert.equal(await page.getByRole('cell', { name: 'csrf_refused' }).count(), 4);
});

onBothBackEnds('injected script is text, and would not run if it were not', 'secure_api', [], async ({ url }) => {
  const page = await loggedIn(url, 'alice');
  const attacks = [
    '<script>globalThis.injected = true</script>',
    '<img src=x onerror="globalThis.injected = true">',
    '"></textarea><svg onload="globalThis.injected = true">',
    '{{ frame.token }}',
  ];
  for (const attack of attacks) {
    await write(page, attack);
    await eventually(async () => assert.equal((await notes(page))[0], attack));
    await page.goto(`${url}/?search=${encodeURIComponent(attack)}`);
    assert.equal(await page.inputValue('[name=search]'), attack);
  }
  assert.equal(await page.evaluate(() => globalThis.injected), undefined);
  // The script of the page itself runs.
  await page.fill('textarea', 'four');
  assert.equal(await page.textContent('#length'), '4 of 1000');
  assert.deepEqual(page.complaints, []);

  // As if a template had forgotten to escape: the policy of the page stops it.
  const blocked = await page.evaluate(async () => {
    const blocked = [];
    document.addEventListener('securitypolicyviolation', (event) => blocked.push(event.effectiveDirective));
    const script = document.createElement('script');
    script.textContent = 'globalThis.injected = true';
    document.body.append(script);
    document.body.insertAdjacentHTML('beforeend', '<img src="data:," onerror="globalThis.injected = true">');
    const far = document.createElement('script');
    far.src = 'https://elsewhere.example/injected.js';
    document.body.append(far);
    await new Promise((resolve) => setTimeout(resolve, 300));
    return blocked.sort();
  });
  assert.deepEqual(blocked, ['script-src-attr', 'script-src-elem', 'script-src-elem']);
  assert.equal(await page.evaluate(() => globalThis.injected), undefined);
});

onBothBackEnds('SQL in a search or a name is text', 'secure_api', [], async ({ url }) => {
  const page = await open(url);
  await enter(page, "alice' OR '1'='1", "' OR '1'='1");
  await page.getByRole('alert').waitFor();
  await enter(page, 'alice');
  await page.waitForURL(`${url}/`);
  await write(page, "it's mine'); DROP TABLE notes; --");
  for (const attack of ["' OR 1=1 --", "' OR ''='", "' UNION SELECT 1, name, password_hash, 'x', 0 FROM users --"]) {
    await page.goto(`${url}/?search=${encodeURIComponent(attack)}`);
    assert.deepEqual(await notes(page), []);
  }
  await page.goto(`${url}/?search=${encodeURIComponent("it's")}`);
  assert.deepEqual(await notes(page), ["it's mine'); DROP TABLE notes; --"]);
});

onBothBackEnds('roles and policies say who may do what', 'secure_api', [], async ({ url }) => {
  const [alice, bob, eve] = await Promise.all(['alice', 'bob', 'eve'].map((name) => loggedIn(url, name)));
  const [demo, build, raise] =
    ['Demo on Friday at ten: bring questions.', 'The build takes four minutes again.', 'Ask for a raise.'];
  // A private note is seen by its owner, the others within the department.
  assert.deepEqual(await notes(alice), [build, demo]);
  assert.deepEqual(await notes(bob), [raise, build, demo]);
  assert.deepEqual(await notes(eve), ['Forty new customers this week!']);
  // Bob may delete what is his, and is refused by the server, not just by a missing button, for what is not.
  assert.equal(await bob.locator('article', { hasText: demo }).getByText('Delete').count(), 0);
  const token = await bob.locator('[name=csrf_token]').first().inputValue();
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const deletion = { method: 'POST', headers, body: `csrf_token=${token}` };
  assert.equal(await status(bob, '/notes/1/delete', deletion), 403);
  assert.equal(await status(bob, '/notes/99/delete', deletion), 404);
  // A manager deletes what the department wrote.
  await alice.locator('article', { hasText: build }).getByText('Delete').click();
  await eventually(async () => assert.deepEqual(await notes(alice), [demo]));
  // The audit log is for managers.
  assert.equal(await bob.getByText('Audit log').count(), 0);
  assert.equal((await bob.goto(`${url}/audit`)).status(), 403);
  await alice.click('text=Audit log');
  await alice.getByText('Nobody has changed it').waitFor();
  await alice.getByText('no policy permits it').waitFor();
  await alice.getByText('lacks permission "audit:read"').waitFor();
});

onBothBackEnds('a program uses an API key, as far as it goes', 'secure_api', [], async ({ url }) => {
  const page = await loggedIn(url, 'alice');
  await page.goto(`${url}/account`);
  await page.click('text=Make a key');
  const key = await page.textContent('#new-key');
  await page.goto(`${url}/account`);
  assert.ok(!(await page.content()).includes(key), 'it is seen once');

  const { request } = await profile();
  const api = `${url}/api/notes`;
  const headers = { authorization: `Bearer ${key}` };
  const listed = await request.get(api, { headers });
  assert.deepEqual((await listed.json()).map(({ owner }) => owner), ['bob', 'alice']);
  assert.equal((await request.get(`${api}/3`, { headers })).status(), 403, "Bob's private note");
  const written = await request.post(api, { headers, data: { text: 'by a program' } });
  assert.equal(written.status(), 403);
  assert.match(written.headers()['www-authenticate'], /^Bearer .*scope="write", error="insufficient_scope"/);
  const refused = await request.get(api);
  assert.equal(refused.status(), 401);
  assert.match(refused.headers()['www-authenticate'], /^Bearer /);
  // Pages are for people, and the API for programs.
  assert.equal((await request.get(`${url}/account`, { headers })).status(), 401);
  assert.equal(await status(page, '/api/notes'), 401);

  await page.check('text=may write');
  await page.click('text=Make a key');
  const writing = { authorization: `Bearer ${await page.textContent('#new-key')}` };
  const created = await request.post(api, { headers: writing, data: { text: 'by a program' } });
  assert.equal(created.status(), 201);
  const { location } = created.headers();
  assert.equal((await (await request.get(url + location, { headers })).json()).text, 'by a program');
  assert.equal((await request.delete(url + location, { headers: writing })).status(), 204);

  await page.getByText('Revoke').first().click();
  await page.getByText('Revoke').first().click();
  await eventually(async () => assert.equal((await request.get(api, { headers })).status(), 401));
});

onBothBackEnds('a new password ends all that the old one began', 'secure_api', [], async ({ url }) => {
  const [page, thief] = [await loggedIn(url, 'bob'), await loggedIn(url, 'bob')];
  const change = async (current, next) => {
    await page.goto(`${url}/account`);
    await page.fill('[name=current]', current);
    await page.fill('[name=new]', next);
    await page.click('text="Change"');
  };
  await change(PASSWORDS.bob, 'password12345678');
  await page.getByText('among those that are tried first').waitFor();
  await change('not what it was', 'a bridge over the river');
  await page.getByText('the password is wrong').waitFor();
  await change(PASSWORDS.bob, 'a bridge over the river');
  await page.waitForURL(`${url}/login`);
  await thief.reload();
  assert.equal(thief.url(), `${url}/login?next=%2F`);
  await enter(thief, 'bob');
  await thief.getByRole('alert').waitFor();
  await enter(page, 'bob', 'a bridge over the river');
  await page.waitForURL(`${url}/`);
});

onBothBackEnds('a flood of logins is turned away', 'secure_api', [], async ({ url }) => {
  const { request } = await profile();
  const answers = [];
  for (let n = 0; n < 40; n++) answers.push(await request.get(`${url}/login`));
  const statuses = answers.map((answer) => answer.status());
  assert.deepEqual(statuses.slice(0, 30), Array(30).fill(200));
  assert.ok(statuses.slice(35).every((status) => status === 429), statuses);
  assert.ok(Number(answers.at(-1).headers()['retry-after']) > 0);
});

const folder = await mkdtemp(join(tmpdir(), 'gimmal-secure-api-'));
const file = join(folder, 'audit.jsonl');

onBothBackEnds('a changed audit log shows', 'secure_api', ['--folder', folder], async ({ url }) => {
  const page = await loggedIn(url, 'alice');
  await page.click('text=Audit log');
  await page.getByText('Nobody has changed it').waitFor();
  const text = await readFile(file, 'utf8');
  await writeFile(file, text.replace('"alice"', '"mallory"'));
  await page.reload();
  await page.getByText('Somebody has changed it').waitFor();
  await rm(file);
});
