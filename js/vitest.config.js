// A test that passes takes milliseconds; the limit is for slow machines.
export default { test: { environment: "happy-dom", include: ["test/**/*.test.ts"], testTimeout: 60_000 } };
