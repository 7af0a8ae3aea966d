// How these programs and the test speak: a line of JSON for each step, answered by a line.
import { createInterface } from 'node:readline'

export const given = JSON.parse(process.argv[2])
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

export const told = async (step, facts = {}) => {
  console.log(JSON.stringify({ step, ...facts }))
  await answers.next()
}

export const until = async (condition, what) => {
  const late = Date.now() + 15000
  while (!condition()) {
    if (Date.now() > late) throw new Error(`in vain: ${what}`)
    await new Promise((done) => setTimeout(done, 10))
  }
}
