-- The outbox of orders' states. Rows stay after publication: their stream sequence is the next one's fence.

-- name: stale_rows
-- Orders with states that were decided a while ago and not published: their process ended in between.
select distinct order_id from (
    select order_id from orders.outbox where not published and decided_at_ms <= $1
    order by decided_at_ms limit $2
) oldest;

-- name: rows_of
-- What is unpublished of these orders, in order, and the last published row as a fence for the first of it.
select order_id, version, subject, decided_at_ms, payload, traceparent, published, stream_sequence
from (
    select *, max(version) filter (where published) over (partition by order_id) as last_published
    from orders.outbox where order_id = any ($1::text[])
) rows
where not published or version = last_published
order by order_id, version;

-- name: mark_published
update orders.outbox o set published = true, stream_sequence = d.stream_sequence, payload = ''
from unnest($1::text[], $2::integer[], $3::bigint[]) as d (order_id, version, stream_sequence)
where o.order_id = d.order_id and o.version = d.version and not o.published;
