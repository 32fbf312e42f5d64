"""Where it runs: executors, the runner, jobs and the command line."""
