"""Peak memory of a process of its own; its ru_maxrss would be that of the test process, which starts it by a fork."""

PEAK_KILOBYTES = 'int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])'
