-- A moment that the API can write, in the years 1 to 9999. Others may have written 'infinity'.
create function iso_moment(moment timestamp) returns timestamp language sql immutable
    return case when moment >= '0001-01-01' and moment < '10000-01-01' then moment end;
