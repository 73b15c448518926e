'use strict';

/** This list gives ids away, so it is the operators' where customers are not authenticated. */
const CUSTOMERS_LIST = 'get /subscription';

/** functions.yml, with the stage's settings of each function. */
exports.stageFunctions = function stageFunctions(plain, settings) {
  const { cors, customers, operators, environments, concurrency = {}, layers, alarms } = settings;
  return Object.fromEntries(Object.entries(plain).map(([name, definition]) => [name, finished(name, definition)]));

  function finished(name, definition) {
    const isForCustomers = definition.events.some(({ http }) => http?.cors);
    return {
      ...definition,
      reservedConcurrency: concurrency[name],
      layers: layers[name] || layers.database,
      environment: { ...(isForCustomers && customers.environment), ...environments[name] },
      events: definition.events.map((event) => ({
        ...event,
        ...(event.http && { http: route(event.http) }),
        ...(event.schedule && { schedule: { ...event.schedule, enabled: alarms.enabled } }),
      })),
    };
  }

  function route(http) {
    if (!http.cors) return { ...http, authorizer: operators.authorizer };
    const ofList = customers.authorizer || operators.authorizer;
    return { ...http, cors, authorizer: isList(http) ? ofList : customers.authorizer };
  }
};

/** The routes that anybody may call: the operators', and those that a page may call. */
exports.openRoutes = function openRoutes(functions) {
  const open = Object.values(functions)
    .flatMap(({ events }) => events)
    .flatMap(({ http }) => (http && !http.authorizer ? [http] : []));
  const isForOperators = (http) => !http.cors || isList(http);
  const names = (routes) => routes.map(({ method, path }) => `${method.toUpperCase()} ${path}`).join(', ');
  return {
    operators: names(open.filter(isForOperators)),
    customers: names(open.filter((http) => !isForOperators(http))),
  };
};

function isList({ method, path }) {
  return `${method} ${path}` === CUSTOMERS_LIST;
}
