"""Rows of a declared type, mapped, filtered and reduced by key: three jobs from one environment."""

import json

from pyflink.common import Types
from pyflink.datastream import StreamExecutionEnvironment

PEOPLE = [
    (1, '{"name": "Ada", "visits": 3, "home": {"country": "England", "city": "London"}}'),
    (2, '{"name": "Emmy", "visits": 8, "home": {"country": "Germany", "city": "Erlangen"}}'),
    (3, '{"name": "Grace", "visits": 5, "home": {"country": "USA", "city": "New York"}}'),
    (4, '{"name": "Max", "visits": 2, "home": {"country": "Germany", "city": "Kiel"}}'),
]


def one_visit_more(row):
    person = json.loads(row.info)
    person["visits"] += 1
    return row.id, json.dumps(person)


def visits_of_country(row):
    person = json.loads(row.info)
    return person["home"]["country"], person["visits"]


def main():
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_parallelism(1)
    people = env.from_collection(
        PEOPLE, type_info=Types.ROW_NAMED(["id", "info"], [Types.INT(), Types.STRING()])
    )

    people.map(one_visit_more).print()
    env.execute("map")

    people.filter(lambda row: row.id == 1).map(one_visit_more).print()
    env.execute("filter")

    people.map(visits_of_country).key_by(lambda pair: pair[0]).reduce(
        lambda left, right: (left[0], left[1] + right[1])
    ).print()
    env.execute("reduce by key")


if __name__ == "__main__":
    main()
