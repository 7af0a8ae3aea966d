// realtime-js as an application uses it: the callback only counts.
import { RealtimeClient } from '@supabase/realtime-js'

const [url, changes] = [process.argv[2], Number(process.argv[3])]
const client = new RealtimeClient(`${url.replace('http', 'ws')}/realtime/v1`, { params: { apikey: 'key' } })
let seen = 0
let start, cpu
client
  .channel('bench')
  .on('postgres_changes', { event: '*', schema: 'public', table: 'orders' }, (change) => {
    if (seen === 0) [start, cpu] = [process.hrtime.bigint(), process.cpuUsage()]
    if (change.new.id !== undefined) seen += 1
    if (seen === changes) {
      const used = process.cpuUsage(cpu)
      const seconds = Number(process.hrtime.bigint() - start) / 1e9
      console.log(JSON.stringify({ changes: seen, seconds, cpu: (used.user + used.system) / 1e6 }))
      process.exit()
    }
  })
  .subscribe((status, error) => error && console.error(status, error))
