"""A database, as an operator's session uses it, and what every suite begins with."""

import psycopg2

# Clubs 1 (active), 2 (closed) and 3 (without a status).
CLUBS = """insert into club (name, store_sku) values ('Lager', 4711), ('Stout', 4712), ('Ale', 4713);
    insert into club_status_history (id, club_id, club_status_id, effect_date, create_date)
        values ('active', 1, 1, utc_now(), utc_now()), ('closed', 2, 2, utc_now(), utc_now())"""


class Database:
    def __init__(self, url: str, **options: str) -> None:
        """`options` are libpq's. They come before what the URL says."""
        self.connection = psycopg2.connect(url, **options)
        self.connection.autocommit = True

    def run(self, statement: str, **values: object) -> list[tuple]:
        """The rows, where there are any."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def column(self, query: str, **values: object) -> list:
        return [value for (value,) in self.run(query, **values)]
