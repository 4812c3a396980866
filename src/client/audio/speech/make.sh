#!/bin/sh
# Remakes caller.wav and callee.wav: 16 kHz, 16-bit, mono, peak -6 dBFS. Needs espeak-ng and sox.
set -eu
cd "$(dirname "$0")"
say() { # file voice speed pitch text
    espeak-ng -v "$2" -s "$3" -p "$4" --stdout "$5" |
        sox -t wav - -r 16000 -b 16 -c 1 -D "$1" \
            silence 1 0.01 0.5% compand 0.01,0.1 6:-60,-40,-25,-12,-6,0,-3 -6 -60 0.01 norm -6 pad 0.05 0.05
}
say caller.wav en-us+f3 175 60 "Hello, this is the caller. The line is clear and I can hear you well."
say callee.wav en-gb+m3 165 35 "Good morning, you have reached the callee. What can I do for you?"
