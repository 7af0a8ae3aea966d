// Supabase's own JavaScript client, as an application uses it. Each step is told on stdout as a line of JSON; the test
// does its part (SQL, a restart) and answers with a line on stdin.
import { RealtimeClient } from '@supabase/realtime-js'
import { given, told, until } from './conversation.mjs'

const { url, anon, ana, bob } = given
const connect = (token) => {
  const client = new RealtimeClient(`${url.replace('http', 'ws')}/realtime/v1`, {
    params: { apikey: anon },
    reconnectAfterMs: () => 200,
  })
  if (token) client.setAuth(token)
  return client
}
const joined = (channel, statuses = []) =>
  new Promise((done, fail) =>
    channel.subscribe((status, error) => {
      statuses.push(status)
      if (status === 'SUBSCRIBED') done(channel)
      else if (status === 'CHANNEL_ERROR') fail(error)
    })
  )
const systems = (channel) => {
  const found = []
  channel.on('system', {}, (payload) => found.push(payload.message))
  return found
}
const ready = (found, times = 1) =>
  until(() => found.filter((text) => text === 'Subscribed to PostgreSQL').length >= times, 'Subscribed to PostgreSQL')

const one = connect()
const two = connect()

// Broadcast, with acknowledgement, of JSON and of bytes, and over HTTP.
const heard = { one: [], two: [] }
const roomOne = one.channel('room', { config: { broadcast: { ack: true, self: true } } })
const roomTwo = two.channel('room')
roomOne.on('broadcast', { event: '*' }, (message) => heard.one.push(message))
roomTwo.on('broadcast', { event: '*' }, (message) => heard.two.push(message))
await Promise.all([joined(roomOne), joined(roomTwo)])
const sent = await roomOne.send({ type: 'broadcast', event: 'text', payload: { n: 1, umlaut: 'ü' } })
const bytes = await roomOne.send({ type: 'broadcast', event: 'bytes', payload: new Uint8Array([0, 255, 7]).buffer })
const http = await roomTwo.httpSend('http', { n: 2 })
const httpBytes = await roomTwo.httpSend('http bytes', new Uint8Array([9, 0]).buffer)
await until(() => heard.one.length === 4 && heard.two.length === 4, 'broadcasts')
const shown = (message) =>
  [message.event, message.payload instanceof ArrayBuffer ? [...new Uint8Array(message.payload)] : message.payload]
await told('broadcast', {
  replies: [sent, bytes, http.success, httpBytes.success], one: heard.one.map(shown), two: heard.two.map(shown),
})

// Presence.
const events = []
const hereOne = one.channel('here', { config: { presence: { key: 'ana' } } })
hereOne.on('presence', { event: 'sync' }, () => {})
const hereTwo = two.channel('here', { config: { presence: { key: 'bob' } } })
hereTwo.on('presence', { event: 'join' }, ({ key }) => events.push(`join ${key}`))
hereTwo.on('presence', { event: 'leave' }, ({ key }) => events.push(`leave ${key}`))
hereTwo.on('presence', { event: 'sync' }, () => events.push('sync'))
await joined(hereOne)
const tracked = [await hereOne.track({ mood: 'fine' })]
await joined(hereTwo)
const mood = () => hereTwo.presenceState().ana?.map(({ mood }) => mood).join()
await until(() => mood() === 'fine', 'presence')
tracked.push(await hereTwo.track({ mood: 'ok' }))
await until(() => Object.keys(hereOne.presenceState()).length === 2, 'both present')
tracked.push(await hereOne.track({ mood: 'better' }))
await until(() => mood() === 'better', 'presence update')
tracked.push(await hereOne.untrack())
await until(() => mood() === undefined, 'untrack')
await told('presence', { tracked, events: events.filter((event) => event !== 'sync'), synced: events.includes('sync') })

// Row changes: every event, one event, a filter.
const changes = { all: [], open: [], gone: [] }
const table = { schema: 'public', table: 'official' }
const rows = one.channel('rows')
const rowsReady = systems(rows)
const note = (list) => (change) =>
  list.push([change.eventType, change.new, change.old, change.errors, change.commit_timestamp.length])
rows.on('postgres_changes', { event: '*', ...table }, note(changes.all))
rows.on('postgres_changes', { event: 'INSERT', ...table, filter: 'status=eq.open' }, note(changes.open))
rows.on('postgres_changes', { event: 'DELETE', ...table }, note(changes.gone))
await joined(rows)
await ready(rowsReady)
await told('subscribed')
await until(() => changes.gone.length === 1, 'row changes')
await told('changes', changes)

// A token that is replaced: first ana's rows, then bob's. And a private channel.
const person = connect(ana)
const mine = person.channel('mine')
const mineReady = systems(mine)
const seen = []
mine.on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'official_private' }, ({ new: row }) => seen.push(row.id))
await joined(mine)
await ready(mineReady)
await told('as ana')
await until(() => seen.length === 1, 'her row')
await person.setAuth(bob)
await ready(mineReady, 2)
await told('as bob')
await until(() => seen.length === 2, 'his row')
await told('seen', { seen })
const team = person.channel('team', { config: { private: true, broadcast: { ack: true, self: true } } })
const messages = []
team.on('broadcast', { event: '*' }, ({ event, payload }) => messages.push([event, payload]))
await joined(team)
const allowed = await team.send({ type: 'broadcast', event: 'hello', payload: { n: 3 } })
await until(() => messages.length === 1, 'private broadcast')
await told('private', { allowed })
await until(() => messages.length === 2, 'a broadcast from the database')
const refused = await joined(person.channel('elsewhere', { config: { private: true } })).catch(({ message }) => message)
await told('private done', { messages, refused })

// The server goes away and comes back: the channel joins again by itself, and hears of rows again.
const before = changes.all.length
await told('restart')
await ready(rowsReady, 2)
await told('back')
await until(() => changes.all.length > before, 'a change after the restart')
await told('healed', { row: changes.all.at(-1)[1] })
await Promise.all([one, two, person].map((client) => client.disconnect()))
process.exit(0)
