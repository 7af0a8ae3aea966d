// supabase-js, as an application uses a whole project: after Supabase Realtime's own end-to-end tests (filters, columns,
// presence, private channels, broadcasts from the database and their replay), and the reading of tables.
import { createClient, postgresChangesFilter } from '@supabase/supabase-js'
import { given, told, until } from './conversation.mjs'

const { url, anon, ana } = given
const options = { auth: { persistSession: false, autoRefreshToken: false } }
const open = async (channel) => {
  const found = []
  channel.on('system', {}, ({ extension, status, message }) => found.push([extension, status, message]))
  await new Promise((done, fail) =>
    channel.subscribe((status, error) => {
      if (status === 'SUBSCRIBED') done()
      else if (status !== 'CLOSED') fail(error ?? new Error(status))
    })
  )
  return found
}
const said = (found, extension, status) =>
  until(() => found.some((line) => line[0] === extension && line[1] === status), `${extension} ${status}`)

// Filters: which rows of one insert each lets through.
const project = createClient(url, anon, options)
const f = postgresChangesFilter
const filters = {
  eq: f().eq('value', 'apple'),
  neq: f().neq('value', 'apple'),
  lt: f().lt('value', 'b'),
  lte: f().lte('n', 2),
  gt: f().gt('value', 'b'),
  gte: f().gte('n', 3),
  in: f().in('value', ['apple', 'a,b "q"']),
  like: f().like('value', '%p%'),
  ilike: f().ilike('value', 'APP%'),
  is: f().is('details', null),
  match: f().match('value', '^[ab]'),
  imatch: f().imatch('value', '^C'),
  isdistinct: f().isDistinct('details', 'keep'),
  not: f().not('value', 'eq', 'apple'),
  'not is': f().not('details', 'is', null),
  and: f().gte('n', 2).lte('n', 3).not('details', 'like', 'skip%'),
  'four conditions': f().like('value', 'a%').not('details', 'like', 'skip%').not('details', 'is', null).lt('n', 9),
}
const seen = {}
const rows = project.channel('filters')
for (const [name, filter] of Object.entries(filters)) {
  seen[name] = []
  rows.on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'fruit', filter }, (change) =>
    seen[name].push(change.new.id)
  )
}
const all = []
rows.on('postgres_changes', { event: '*', schema: 'public', table: 'fruit' }, (change) =>
  all.push([change.eventType, change.new, change.old])
)
const chosen = []
const columns = project.channel('columns')
columns.on(
  'postgres_changes',
  { event: 'INSERT', schema: 'public', table: 'fruit', filter: f().eq('n', 1), select: ['id', 'value'] },
  (change) => chosen.push(change.new)
)
const refused = project.channel('refused')
refused.on('postgres_changes', { event: '*', schema: 'public', table: 'fruit', filter: 'nope=eq.1' }, () => {})
const [ready, columnsReady, refusal] = [await open(rows), await open(columns), await open(refused)]
await said(ready, 'postgres_changes', 'ok')
await said(columnsReady, 'postgres_changes', 'ok')
await said(refusal, 'postgres_changes', 'error')
await told('fruit')
await until(() => all.length === 6 && chosen.length === 1, 'rows')
await told('filters', { seen, chosen, refused: refusal[0][2], changes: all.slice(4) })
await project.removeChannel(columns)
await told('removed', { left: project.getChannels().length })

// Tables, read.
const table = () => project.from('fruit')
const read = {
  plain: await table().select('id,value').order('id'),
  range: await table().select('id', { count: 'exact' }).order('id', { ascending: false }).range(1, 2),
  head: await table().select('*', { count: 'exact', head: true }),
  single: await table().select('value').eq('id', 1).single(),
  none: await table().select('value').eq('id', 99).single(),
  maybe: await table().select('value').eq('id', 99).maybeSingle(),
  or: await table().select('id').or('value.eq."a,b \\"q\\"",n.lt.2').order('id'),
  in: await table().select('id').in('value', ['apple', 'a,b "q"']).order('id'),
  not: await table().select('id').not('details', 'is', null).order('id'),
  contains: await table().select('id').contains('tags', ['red']),
  csv: await table().select('id,value').eq('id', 1).csv(),
  missing: await project.from('nope').select(),
  write: await table().insert({ id: 50 }),
}
await told(
  'read',
  Object.fromEntries(
    Object.entries(read).map(([name, { data, count, status, error }]) => [name, [status, data, count, error?.code ?? null]])
  )
)

// As a user, whose token the application gives when asked: a private channel.
let asked = 0
const accessToken = async () => {
  asked += 1
  return ana
}
const person = createClient(url, anon, { ...options, accessToken })
await person.realtime.setAuth()
const team = person.channel('team', {
  config: { private: true, presence: { key: 'ana' }, broadcast: { ack: true, self: true, replication_ready: true } },
})
const heard = []
const joins = []
team.on('broadcast', { event: '*' }, ({ event, payload, meta }) =>
  heard.push([event, payload instanceof ArrayBuffer ? [...new Uint8Array(payload)] : payload, meta?.replayed ?? false])
)
team.on('presence', { event: 'join' }, ({ key, newPresences }) => joins.push([key, newPresences[0].mood]))
const teamSaid = await open(team)
await said(teamSaid, 'system', 'ok')
const tracked = await team.track({ mood: 'fine' })
await until(() => joins.length === 1, 'presence in a private channel')
const sent = await team.send({ type: 'broadcast', event: 'said', payload: { n: 1 } })
const since = Date.now() - 60_000
await told('team')
await until(() => heard.length === 6, 'what the database sent')
const untracked = await team.untrack()
await told('heard', { heard, joins, tracked, untracked, sent, asked: asked > 0 })
await person.removeAllChannels()
heard.length = 0
const again = person.channel('team', { config: { private: true, broadcast: { replay: { since, limit: 3 } } } })
again.on('broadcast', { event: '*' }, ({ event, payload, meta }) =>
  heard.push([event, payload instanceof ArrayBuffer ? [...new Uint8Array(payload)] : payload.operation, meta?.replayed])
)
await open(again)
await until(() => heard.length === 3, 'the replay')
await told('replayed', { heard })
const elsewhere = await open(person.channel('elsewhere', { config: { private: true } })).catch(({ message }) => message)
const own = await (await fetch(`${url}/realtime/v1/api/broadcast`, {
  method: 'POST',
  headers: { apikey: anon, Authorization: `Bearer ${ana}`, 'Content-Type': 'application/json' },
  body: JSON.stringify({ messages: [{ topic: 'team', event: 'http', payload: { n: 9 }, private: true }] }),
})).status
await until(() => heard.length === 4, 'a private broadcast over HTTP')
await told('done', { elsewhere, own })
await Promise.all([project, person].map((client) => client.removeAllChannels()))
process.exit(0)
