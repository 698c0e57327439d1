"""
Real crashes: the daemon as a process on a real broker, killed hundreds of times, and judged by what others have seen.

What lives here: where and when the process dies (`strikes`, `launch`), what happens around it (`plan`, `workload`), one
run from its seed to its verdict (`runner`), and the judgement (`evidence`, `trail`, `checks`). The judgement asks the
server's history, the topics, and the store that the last process left; never a process.

One seed fixes the workload, the weather at Windchill, the configurations and how each process is to end. Real time, the
broker and the operating system are not fixed: the same seed is the same plan, not the same run.
"""
