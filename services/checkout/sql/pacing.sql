-- Paces the orders of a sale. The database's clock decides, and the row of the sale's pace lets one worker at a
-- time give slots.

-- name: give_slots
-- A slot for each order of a sale that has none yet, in the order of INTAKE and so far apart; returns all that
-- were asked for, with how long they still have to wait. Who would wait for nearly the longest wait or beyond
-- comes at its end, only to be told that it is too late, and takes up no time of the sale: the last tenth of the
-- wait is left for the way. Where another worker gave an order its slot meanwhile, that one stands.
with clock as (
    select now_us, now_us + $4::bigint as latest_us, now_us + $4::bigint - $4::bigint / 10 as horizon_us
    from (select (extract(epoch from now()) * 1000000)::bigint as now_us) c
),
asked as (
    select distinct sequence from unnest($2::bigint[]) as a (sequence)
),
known as (
    select sequence, slot_us from orders.slots join asked using (sequence) where sale = $1
),
fresh as (
    select sequence, row_number() over (order by sequence) - 1 as nth
    from asked where sequence not in (select sequence from known)
),
pace as (
    insert into orders.paces as p (sale, first_us, last_us)
    select $1, now_us, now_us + least(count(*) - 1, (horizon_us - now_us) / $3::bigint) * $3::bigint
    from clock, fresh group by now_us, horizon_us
    on conflict (sale) do update set (first_us, last_us) = (
        select n.first_us, case
            when n.first_us > horizon_us then p.last_us
            else n.first_us + least(
                (select count(*) - 1 from fresh), (horizon_us - n.first_us) / $3::bigint
            ) * $3::bigint
        end
        from clock, lateral (select greatest(now_us, p.last_us + $3::bigint) as first_us) n
    )
    returning first_us
),
wanted as (
    select sequence, first_us + nth * $3::bigint as slot_us from fresh, pace
),
given as (
    insert into orders.slots as s (sale, sequence, slot_us)
    select $1, sequence, case when slot_us <= horizon_us then slot_us else latest_us end from wanted, clock
    on conflict (sale, sequence) do update set slot_us = s.slot_us
    returning sequence, slot_us
)
select sequence, greatest(0, slot_us - now_us) as wait_us
from (select * from known union all select * from given) slots, clock;

-- name: drop_slots
-- Of orders that were taken on.
delete from orders.slots where sale = $1 and sequence = any ($2::bigint[]);

-- name: drop_left_slots
-- Of sales that are archived, and those long past that were left behind by a worker that ended.
with left_behind as (
    delete from orders.slots
    where sale = any ($1::text[]) or slot_us < (extract(epoch from now()) * 1000000)::bigint - $2::bigint
),
archived as (
    delete from orders.paces where sale = any ($1::text[])
)
select;
