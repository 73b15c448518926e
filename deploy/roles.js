'use strict';

/** What Lambda, and no code of ours, does with a function's role in a network: the managed policy below allows it. */
const NETWORK_INTERFACES = [
  'ec2:CreateNetworkInterface',
  'ec2:DeleteNetworkInterface',
  'ec2:DescribeNetworkInterfaces',
  'ec2:DescribeSubnets',
  'ec2:AssignPrivateIpAddresses',
  'ec2:UnassignPrivateIpAddresses',
];
const PATH = ':iam::aws:policy/service-role/';
/** The framework's choice may write every log of the account, too. */
const [WIDE_POLICY, POLICY] = [`${PATH}AWSLambdaVPCAccessExecutionRole`, `${PATH}AWSLambdaENIManagementAccess`];

/**
 * A role for each function that has none, in place of the framework's for all of them. It keeps what the framework's
 * settings say (`provider.iam.role`), and has no name: CloudFormation makes one that fits.
 *
 * @param statements what a function may read: of the functions with a name here, and of the others (`database`)
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
    // The first two are for the logs of all functions, which may be created as well.
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
