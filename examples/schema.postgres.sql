-- The table of functions.py in PostgreSQL.
CREATE TABLE persons (
    person_id bigint PRIMARY KEY,
    first text,
    last text,
    age integer
);
