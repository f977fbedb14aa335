"""gdb commands for a stopped AdrOS kernel: threads, processes, spaces, inodes, locks.

The kernel itself makes the reports (Sources/Kernel/Inspection): its structures are Swift's, which gdb cannot read.
"""
import gdb

REPORTS = ["threads", "processes", "spaces", "inodes", "locks"]


def report(number):
    if int(gdb.parse_and_eval("$cs")) & 3:
        raise gdb.GdbError("the processor is in user mode: `hbreak syscall_entry`, continue, and ask again")
    length = int(gdb.parse_and_eval("((unsigned (*)(unsigned))inspect_report)(%d)" % number))
    if length == 0:
        raise gdb.GdbError("the kernel is inside a critical section: continue a little and ask again")
    address = int(gdb.parse_and_eval("(unsigned)&inspect_buffer"))
    return gdb.selected_inferior().read_memory(address, length).tobytes().decode(errors="replace")


class Report(gdb.Command):
    def __init__(self, name, number):
        self.number = number
        self.__doc__ = "What the kernel says of its %s." % name
        super().__init__("adros-" + name, gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        print(report(self.number), end="")


for index, name in enumerate(REPORTS):
    Report(name, index)
gdb.execute("set print frame-arguments none")
print("adros: " + ", ".join("adros-" + name for name in REPORTS))
