"""Serial numbers of certificates: they count, so that all that a node was ever issued can be refused by one number.

Dates cannot say it: a certificate is valid from 1970 on, since a machine whose clock has stopped must still join.
"""

RANDOM_BITS = 64
NUMBER_BITS = 40


def serial_of(number: int, random: int) -> int:
    """`number`: when it was issued, counted in seconds since 1970 but never the same twice, nor a lower one later."""
    assert 0 < number < 1 << NUMBER_BITS and 0 <= random < 1 << RANDOM_BITS
    return number << RANDOM_BITS | random


def number_of(serial: int) -> int:
    """0: of before they counted. Such serials are random, of 159 bits: one in 2^55 looks as if it counted."""
    number = serial >> RANDOM_BITS
    return number if number < 1 << NUMBER_BITS else 0
