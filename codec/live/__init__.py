"""Live sound: packets out as soon as they are complete, samples back whatever the network lost.

    samples → LiveEncoder: networks → Sender: rate_control, prediction → packet → network
    network → packet → LiveDecoder: jitter_buffer → prediction, or concealment → networks → samples

`batch` does the same for many streams at once.
"""
