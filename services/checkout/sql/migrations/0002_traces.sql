-- The trace that began when an order was placed goes on with it, whoever leads it on and however much later.

alter table orders.orders add column traceparent text not null default '';
alter table orders.outbox add column traceparent text not null default '';
