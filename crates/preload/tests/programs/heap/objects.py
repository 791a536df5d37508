# Makes Python objects of known sizes in known lines. Ends without freeing those that it keeps.
import os
import sys


def objects(count):
    made = []
    for i in range(count):
        made.append(object())  # line of objects
    return made


def buffers(count):
    made = []
    for i in range(count):
        made.append(bytearray(3000))  # line of buffers
    return made


def grown(count):
    made = []
    for i in range(count):
        made.append(None)  # line of grown
    return made


def passing(count):
    for i in range(count):
        object()  # line of passing


def child():
    kept = objects(500)
    os._exit(len(kept) - 495)


print("object", sys.getsizeof(object()))
kept = [objects(20000), buffers(300), grown(100000)]
passing(10000)
print("grown", sys.getsizeof(kept[2]) - sys.getsizeof([]))
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    child()
status = os.waitpid(pid, 0)[1]
print("status", status)
sys.stdout.flush()
os._exit(0)
