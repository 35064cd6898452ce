-- The two usual designs of a reservation, as `rivals` measures them.

-- name: schema
drop schema if exists rivals cascade;
create schema rivals;

create table rivals.sections (
    id text primary key,
    free integer not null check (free >= 0)
);

create table rivals.holds (
    id bigserial primary key,
    section text not null references rivals.sections (id),
    buyer text not null,
    quantity integer not null,
    expires_at timestamptz not null
);

create table rivals.seats (
    section text not null,
    seat integer not null,
    buyer text not null,
    expires_at timestamptz not null,
    primary key (section, seat)
);

-- name: open_section
insert into rivals.sections (id, free) values ($1, $2);

-- name: lock_section
select free from rivals.sections where id = $1 for update;

-- name: take_from_section
update rivals.sections set free = free - $2 where id = $1;

-- name: insert_hold
insert into rivals.holds (section, buyer, quantity, expires_at)
values ($1, $2, $3, now() + interval '10 minutes');

-- name: hold_in_one_statement
with taken as (
    update rivals.sections set free = free - $3 where id = $1 and free >= $3 returning id
)
insert into rivals.holds (section, buyer, quantity, expires_at)
select id, $2, $3, now() + interval '10 minutes' from taken;

-- name: insert_seat
insert into rivals.seats (section, seat, buyer, expires_at)
values ($1, $2, $3, now() + interval '10 minutes');
