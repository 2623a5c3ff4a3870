"""An open loop: sends requests when they are due, whatever the replies do, and keeps a record of each."""

import os
import threading
import time

import rows


def process_seconds(pid):
    """CPU seconds of a process and its threads so far."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send(client, request, start, due, record):
    """Fills the record of one request; times are seconds since the start of the run."""
    record.update(due=due, sent=time.monotonic() - start, prompt_tokens=len(request.ids), asked_tokens=request.tokens)
    try:
        reply = client.send(request.ids, request.tokens)
        record.update(arrivals=[at - start for at in reply.arrivals], tokens=reply.tokens, reused=reply.reused)
    except Exception as error:  # pylint: disable=broad-except  a failed request is a result
        record["error"] = repr(error)
    record["finished"] = time.monotonic() - start


def run(system, requests, rate):
    """{"records", "foreign_cores"} of requests at `rate` a second; without a rate all are due at once."""
    records, threads = [{} for _ in requests], []
    busy, own = rows.busy_seconds(), process_seconds(system.pid) + time.process_time()
    start = time.monotonic()
    for request, record in zip(requests, records):
        due = request.seconds / rate if rate else 0.0
        time.sleep(max(0.0, start + due - time.monotonic()))
        threads.append(threading.Thread(target=send, args=(system.client, request, start, due, record)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    wall = time.monotonic() - start
    used = process_seconds(system.pid) + time.process_time() - own
    foreign = (rows.busy_seconds() - busy - used) / wall
    return {"records": records, "wall_seconds": wall, "foreign_cores": round(max(0.0, foreign), 2)}
