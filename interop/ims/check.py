"""The scenarios. Each prints a line; the exit status is 0 only if all hold. NAMES: the first words of some."""
import signal
import sys
import time

import core_scenarios
import ims_scenarios
import page_scenarios
import trunk_scenarios
from lab import WORK, Failed, check_configurations, start_core, stop_all
from ript import start_server

# What each needs besides the core.
SETS = {
    "core": (core_scenarios.SCENARIOS, lambda: None),
    "ims": (ims_scenarios.SCENARIOS, start_server),
    "trunk": (trunk_scenarios.SCENARIOS, start_server),
    "page": (page_scenarios.SCENARIOS, lambda: None),
}


def wanted(names):
    """Sets with those of their scenarios that are asked for."""
    beginnings = tuple(name.replace("-", "_") for name in names)
    for set_name, (scenarios, needs) in SETS.items():
        some = [one for one in scenarios if not names or set_name in names or one.__name__.startswith(beginnings)]
        if some:
            yield set_name, some, needs


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began, failures, count = time.monotonic(), 0, 0
    print(f"logs: {WORK}", flush=True)
    try:
        check_configurations()
        core = start_core()
        for set_name, scenarios, needs in wanted(sys.argv[1:]):
            base = [*core, *filter(None, [needs()])]
            for scenario in scenarios:
                count += 1
                start = time.monotonic()
                try:
                    line = f"ok: {set_name}: {scenario()}"
                except Failed as error:
                    failures += 1
                    line = f"FAIL: {set_name}: {scenario.__name__.replace('_', '-')}: {error}"
                print(f"{line} ({time.monotonic() - start:.1f} s)", flush=True)
                stop_all()
                for one in base:
                    if one.process.poll() is not None:
                        raise Failed(f"{one.name} left with {one.process.returncode}: {one.said()[-600:]}")
            for one in base[len(core):]:
                one.stop()
    except Failed as error:
        failures += 1
        print(f"FAIL: {error}")
    finally:
        stop_all(all_of_them=True)
    if not count and not failures:
        print(f"no scenario begins with any of {sys.argv[1:]}")
    print(f"{count - failures} of {count} scenarios hold, in {time.monotonic() - began:.0f} s; logs: {WORK}")
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main())
