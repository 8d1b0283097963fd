// Sorts what http-cache-tests found by how much it matters: node cache.mjs PACKAGE RESULTS
import fs from 'node:fs'

const [folder, results] = process.argv.slice(2)
const { default: suites } = await import(`${folder}/tests/index.mjs`)
const { default: surrogate } = await import(`${folder}/tests/surrogate-control.mjs`)
const found = JSON.parse(fs.readFileSync(results))
const all = [...suites, surrogate].flatMap(suite => suite.tests)
const by = new Map(all.map(test => [test.id, test]))

const passes = test => found[test.id] === true
// A test that stands on another says nothing where that one fails.
const stands = test => (test.depends_on ?? []).every(id => passes(by.get(id)) && stands(by.get(id)))
const counts = { required: [0, 0], optimal: [0, 0], check: [0, 0] }
const missed = []
let moot = 0
let broken = 0
for (const test of all) {
  if (test.browser_only || found[test.id] === undefined) continue
  const result = found[test.id]
  const kind = test.kind ?? 'required'
  if (!stands(test)) {
    moot++
  } else if (result !== true && result[0] === 'Setup') {
    broken++
    missed.push(`setup ${test.id}: ${result[1]}`)
  } else {
    counts[kind][1]++
    if (result === true) counts[kind][0]++
    else if (kind !== 'check') missed.push(`${kind} ${test.id}: ${test.name} (${result[1]})`)
  }
}
for (const [kind, [good, of]] of Object.entries(counts)) console.log(`${kind}: ${good} of ${of}`)
console.log(`standing on one that fails: ${moot}; not set up: ${broken}`)
for (const line of missed.sort()) console.log(line)
