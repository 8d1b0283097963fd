// Writes JSON lines, as much of them as LOG asks for.

const LEVELS = ["error", "warn", "info", "debug"];
const most = Math.max(LEVELS.indexOf(process.env.LOG ?? "info"), 0);

/** Writes one line. */
export function log(level, message, fields = {}) {
  if (LEVELS.indexOf(level) <= most) {
    const line = { timestamp: new Date().toISOString(), level, message, ...fields };
    process.stdout.write(`${JSON.stringify(line)}\n`);
  }
}
