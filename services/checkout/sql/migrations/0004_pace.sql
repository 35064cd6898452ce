-- The pace of a sale is one for all workers. Here times are microseconds since 1970 by the database's clock: the
-- orders of a fast sale are less than a millisecond apart.

-- Where a paced sale is: the first slot that its latest new orders got, and the last one that took up time of
-- its own. The next orders stand behind that.
create table orders.paces (
    sale     text primary key,
    first_us bigint not null,
    last_us  bigint not null
);

-- From when on an order that waits in INTAKE is taken on; gone once it was.
create table orders.slots (
    sale     text not null,
    -- Its place in INTAKE.
    sequence bigint not null,
    slot_us  bigint not null,
    primary key (sale, sequence)
);
