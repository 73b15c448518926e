-- A pause may write its own end: an ACTIVE entry in the future with these details.
create function automatic_return_details() returns varchar language sql immutable
    return 'Automatic return schedule'::varchar;

create function is_automatic_return(status_id integer, details varchar) returns boolean language sql immutable
    return coalesce(status_id = 1 and details = automatic_return_details(), false);
