"""JSON texts parsed once, changed and filtered as the Python objects they are."""

import json

from pyflink.datastream import StreamExecutionEnvironment

ORDERS = [
    (1, '{"item": "tea", "amount": 3, "ship_to": {"country": "India", "city": "Pune"}}'),
    (2, '{"item": "salt", "amount": 1, "ship_to": {"country": "France", "city": "Lyon"}}'),
    (3, '{"item": "rice", "amount": 7, "ship_to": {"country": "Japan", "city": "Nara"}}'),
    (4, '{"item": "figs", "amount": 2, "ship_to": {"country": "India", "city": "Agra"}}'),
]


def one_more(order):
    number, text = order
    content = json.loads(text)
    content["amount"] += 1
    return number, content


def goes_to_india(order):
    return order[1]["ship_to"]["country"] == "India"


def main():
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_parallelism(1)
    env.from_collection(ORDERS).map(one_more).filter(goes_to_india).print()
    env.execute("JSON")


if __name__ == "__main__":
    main()
