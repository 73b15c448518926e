'use strict';

/** The longest name that AWS takes, in characters, for each type of resource that has a name here. */
const LIMITS = {
  'AWS::ApiGateway::Stage': ['StageName', 128],
  'AWS::CloudWatch::Alarm': ['AlarmName', 255],
  'AWS::CloudWatch::Dashboard': ['DashboardName', 255],
  'AWS::Events::Rule': ['Name', 64],
  'AWS::IAM::Role': ['RoleName', 64],
  'AWS::Lambda::Function': ['FunctionName', 64],
  'AWS::Logs::LogGroup': ['LogGroupName', 512],
  'AWS::SNS::Topic': ['TopicName', 256],
  'AWS::Scheduler::Schedule': ['Name', 64],
  'AWS::StepFunctions::StateMachine': ['StateMachineName', 80],
};

/** The name that is furthest over its limit, if any name is too long. */
module.exports = function longestName(resources, region) {
  const found = Object.values(resources)
    .filter(({ Type, Properties }) => Type in LIMITS && LIMITS[Type][0] in Properties)
    .map(({ Type, Properties }) => {
      const [key, limit] = LIMITS[Type];
      const name = text(Properties[key], region);
      return { kind: Type, name, limit, excess: name.length - limit };
    })
    .filter(({ excess }) => excess > 0);
  return found.sort((a, b) => b.excess - a.excess)[0];
};

/** The text of a name, which may use some of CloudFormation's functions. */
function text(value, region) {
  const parameters = { 'AWS::Region': region };
  if (typeof value === 'string') return value;
  if (value.Ref) return parameters[value.Ref] || '';
  if (value['Fn::Sub']) {
    const [template] = [].concat(value['Fn::Sub']);
    return template.replace(/\$\{(.*?)\}/g, (_, name) => parameters[name] || '');
  }
  const [separator, parts] = value['Fn::Join'];
  return parts.map((part) => text(part, region)).join(separator);
}
