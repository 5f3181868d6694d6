// The app of the benchmarks in Express, without sessions or with express-session's in Redis: node express.js PORT [URL]

const express = require('express')
const session = require('express-session')
const { RedisStore } = require('connect-redis')
const { createClient } = require('redis')

const [port, url] = process.argv.slice(2)
const data = {
  user_id: 'u-1234567', name: 'Ada Lovelace', roles: ['admin', 'staff'],
  cart: { items: [{ sku: 'A1', n: 2 }, { sku: 'B2', n: 1 }], total: 12.5 },
  csrf: '0123456789abcdef0123456789abcdef', seen: true, n: 17
}
const acts = {
  untouched: () => {},
  read: session => session.name,
  write: session => { session.n += 1 },
  fill: session => Object.assign(session, data)
}

const app = express()
if (url) {
  const client = createClient({ url })
  client.connect()
  const secret = 'a secret for the benchmarks alone'
  app.use(session({ store: new RedisStore({ client }), secret, resave: false, saveUninitialized: false }))
}
for (const [path, act] of Object.entries(acts)) {
  app.get('/' + path, (request, response) => {
    if (url) act(request.session)
    response.type('text').send('hi')
  })
}
app.listen(Number(port), '127.0.0.1')
