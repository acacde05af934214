-- The table of functions.py in MySQL and MariaDB.
CREATE TABLE persons (
    person_id BIGINT PRIMARY KEY,
    first VARCHAR(100),
    last VARCHAR(100),
    age INT
) CHARACTER SET utf8mb4;
