// Apps on the real express-session, made and asked over HTTP.
//
// POST /apps              {store, session}: make an app; answers with its number
// POST /apps/:n/visit     [[verb, ...], ...]: do that to req.session, as a browser's request
// GET  /apps/:n/record    ?id=: what the store returns for the ID
// DELETE /apps/:n         close its connections
"use strict";

const express = require("express");
const session = require("express-session");

const stores = {
  async memory() {
    return [new session.MemoryStore(), async () => {}];
  },
  async redis({ url, ...options }) {
    const { RedisStore } = require("connect-redis");
    const client = require("redis").createClient({ url });
    client.on("error", () => {});
    await client.connect();
    return [new RedisStore({ client, ...options }), () => client.close()];
  },
  async postgresql({ url, ...options }) {
    const PGStore = require("connect-pg-simple")(session);
    const { Pool } = require("pg");
    const pool = new Pool({ connectionString: url, max: 4 });
    const store = new PGStore({ pool, pruneSessionInterval: false, ...options });
    return [store, async () => { store.close(); await pool.end(); }];
  },
  async mongodb({ url, ...options }) {
    const { MongoStore } = require("connect-mongo");
    const { MongoClient } = require("mongodb");
    const client = await MongoClient.connect(url);
    const store = MongoStore.create({ client, autoRemove: "disabled", ...options });
    return [store, () => store.close()];
  },
};

const called = (subject, name) =>
  new Promise((done, failed) => subject[name]((error) => (error ? failed(error) : done())));

const verbs = {
  async get() {},
  async set(req, key, value) { req.session[key] = value; },
  async setDate(req, key, milliseconds) { req.session[key] = new Date(milliseconds); },
  async remove(req, key) { delete req.session[key]; },
  async nested(req, key, inner, value) { (req.session[key] ??= {})[inner] = value; },
  async push(req, key, value) { (req.session[key] ??= []).push(value); },
  async add(req, key) { req.session[key] = (req.session[key] ?? 0) + 1; },
  async regenerate(req) { await called(req.session, "regenerate"); },
  async destroy(req) { await called(req.session, "destroy"); },
  async save(req) { await called(req.session, "save"); },
  async reload(req) { await called(req.session, "reload"); },
  async touch(req) { req.session.touch(); },
  async maxAge(req, milliseconds) { req.session.cookie.maxAge = milliseconds; },
  async drop(req) { req.session = null; },
  async wait(req, milliseconds) { await new Promise((done) => setTimeout(done, milliseconds)); },
};

const data = (req) => {
  if (!req.session) return null;
  const { cookie, ...rest } = JSON.parse(JSON.stringify(req.session));
  return rest;
};

const apps = new Map();

async function make({ store: { kind, ...options }, session: settings }) {
  const [store, close] = await stores[kind](options);
  const app = express();
  app.set("trust proxy", true);
  app.use(session({ store, ...settings }));
  app.use(express.json());
  app.post("/visit", async (req, res) => {
    try {
      for (const [verb, ...values] of req.body) await verbs[verb](req, ...values);
      res.json({ id: req.session ? req.sessionID : null, data: data(req) });
    } catch (error) {
      res.status(500).json({ error: String(error) });
    }
  });
  app.get("/record", (req, res) => {
    store.get(req.query.id, (error, found) => res.json({ error: error && String(error), found: found ?? null }));
  });
  return { app, close };
}

const server = express();
server.post("/apps", express.json(), async (req, res) => {
  try {
    const number = apps.size + 1;
    apps.set(number, await make(req.body));
    res.json(number);
  } catch (error) {
    res.status(500).json({ error: String(error.stack) });
  }
});
server.delete("/apps/:number", async (req, res) => {
  const made = apps.get(Number(req.params.number));
  apps.set(Number(req.params.number), null);
  if (made) await made.close();
  res.json(null);
});
server.use("/apps/:number", (req, res, next) => apps.get(Number(req.params.number)).app(req, res, next));
server.listen(Number(process.env.PORT), "127.0.0.1");
