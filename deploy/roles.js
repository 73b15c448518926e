'use strict';

/** Lambda does this with a function's role in a network, and no code of ours does. The managed policy below allows it. */
const NETWORK_INTERFACES = [
  'ec2:CreateNetworkInterface',
  'ec2:DeleteNetworkInterface',
  'ec2:DescribeNetworkInterfaces',
  'ec2:DescribeSubnets',
  'ec2:AssignPrivateIpAddresses',
  'ec2:UnassignPrivateIpAddresses',
];
const PATH = ':iam::aws:policy/service-role/';
/** With the framework's policy, a function may also write every log of the account. */
const [WIDE_POLICY, POLICY] = [`${PATH}AWSLambdaVPCAccessExecutionRole`, `${PATH}AWSLambdaENIManagementAccess`];

/**
 * Gives each function that has no role its own, in place of the framework's one role for all. A role keeps the settings
 * of `provider.iam.role`. It has no name: CloudFormation makes one that fits.
 *
 * @param statements what a function may read, by its name; `database` is for the functions without an entry
 */
module.exports = function roles(serverless, resources, statements) {
  const { service } = serverless;
  const { naming } = serverless.getProvider('aws');
  const shared = resources[naming.getRoleLogicalId()];
  if (!shared) return;
  for (const name of service.getAllFunctions()) {
    const definition = service.getFunction(name);
    if (definition.role) continue;
    const id = `IamRole${naming.getNormalizedFunctionName(name)}Execution`;
    const made = resources[naming.getLambdaLogicalId(name)].Properties;
    resources[id] = role(definition.name, naming.getLogGroupLogicalId(name), statements[name] || statements.database);
    made.Role = { 'Fn::GetAtt': [id, 'Arn'] };
  }
  delete resources[naming.getRoleLogicalId()];

  function role(name, log, ofOurs) {
    const made = structuredClone(shared);
    delete made.Properties.RoleName;
    const { PolicyDocument } = made.Properties.Policies[0];
    // The first two statements allow creating and writing the logs of all functions.
    const [, , ...others] = PolicyDocument.Statement;
    PolicyDocument.Statement = [
      {
        Effect: 'Allow',
        Action: ['logs:CreateLogStream', 'logs:PutLogEvents'],
        Resource: { 'Fn::GetAtt': [log, 'Arn'] },
      },
      ...others,
      ...(ofOurs || []),
    ];
    for (const policy of made.Properties.ManagedPolicyArns || []) {
      const parts = policy['Fn::Join']?.[1];
      if (parts?.at(-1) !== WIDE_POLICY) continue;
      parts.splice(-1, 1, POLICY);
      PolicyDocument.Statement.push(notByTheCode(name));
    }
    return made;
  }
};

function notByTheCode(name) {
  const arn = 'arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:' + name;
  return {
    Effect: 'Deny',
    Action: NETWORK_INTERFACES,
    Resource: '*',
    Condition: { ArnEquals: { 'lambda:SourceFunctionArn': { 'Fn::Sub': arn } } },
  };
}
