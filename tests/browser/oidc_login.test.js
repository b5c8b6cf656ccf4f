import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { onBothBackEnds, open } from './example.js';

const folder = fileURLToPath(new URL('../oidc-provider', import.meta.url));
const providers = [];
after(() => providers.forEach((provider) => provider.kill()));

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

/** Starts a provider that knows the site, and gives the options of the site. */
async function options() {
  const port = await freePort();
  const site = `https://127.0.0.1:${port}`;
  const uris = [`${site}/oidc/callback`, `${site}/`, `${site}/oidc/backchannel-logout`];
  const provider = spawn('node', ['server.js', ...uris], {
    cwd: folder,
    stdio: ['pipe', 'pipe', 'ignore'],
    // The site's certificate is for development.
    env: { ...process.env, NODE_TLS_REJECT_UNAUTHORIZED: '0' },
  });
  providers.push(provider);
  const [issuer] = await once(createInterface(provider.stdout), 'line');
  return ['--addr', `127.0.0.1:${port}`, '--issuer', issuer, '--site', site];
}

const logIn = async (page, name) => {
  await page.fill('[name=login]', name);
  await page.fill('[name=password]', 'any will do');
  await page.click('button');
  await page.click('text=Continue');
  await page.getByRole('heading', { name: `Hello, ${name}!` }).waitFor();
};

onBothBackEnds('a login at the provider, and a logout at both', 'oidc_login', options, async ({ url }) => {
  const page = await open(url);
  await page.getByText('Nobody is logged in').waitFor();
  await page.click('text=Your account');
  await logIn(page, 'carol');
  assert.equal(page.url(), `${url}/account`);
  await page.getByText('carol@example.org').waitFor();

  await page.click('text=Log out');
  await page.click('text=Yes, sign me out');
  await page.getByText('Nobody is logged in').waitFor();
  assert.equal(page.url(), `${url}/`);
  // The provider has forgotten the browser, too.
  await page.click('text=Your account');
  await page.locator('[name=login]').waitFor();
});

onBothBackEnds('a logout at the provider ends the session here', 'oidc_login', options, async ({ url }) => {
  const page = await open(url);
  await page.click('text=Log in at');
  const provider = new URL(page.url()).origin;
  await logIn(page, 'dave');
  await page.goto(`${provider}/session/end`);
  await page.click('text=Yes, sign me out');
  await page.getByText('Sign-out Success').waitFor();
  await page.goto(url);
  await page.getByText('Nobody is logged in').waitFor();
});

onBothBackEnds('an answer that another browser asked for is refused', 'oidc_login', options, async ({ url }) => {
  const page = await open(`${url}/oidc/login`);
  const answer = page.waitForRequest(/oidc\/callback/);
  await logIn(page, 'mallory');
  // Whoever follows this link would be logged in as Mallory, and leave what is private in Mallory's account.
  const victim = await open((await answer).url());
  await victim.getByText('this browser began no such login').waitFor();
  await victim.goto(url);
  await victim.getByText('Nobody is logged in').waitFor();
});
