"""A SAM template as a plan: what is honoured, and where everything else is pointed at."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from okiba.adapters.sam_plan import FunctionPlan, Plan
from okiba.adapters.sam_template import read_plan
from okiba.core.binding import Binding
from okiba.core.errors import CallerError, InvalidParameter, Unsupported
from okiba.core.function import Statement

HEAD = "Transform: AWS::Serverless-2016-10-31\n"

FUNCTION = """\
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src
      Handler: app.handler
      Runtime: python3.11
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text("def handler(event, context): ...\n")
    return tmp_path


def plan(folder: Path, text: str, **parameters: str) -> Plan:
    template = folder / "template.yaml"
    template.write_text(HEAD + dedent(text))
    return read_plan(template, "shop", parameters)


def function(folder: Path, properties: str = "", resources: str = "", before: str = "") -> FunctionPlan:
    """The plan of one function that has these properties besides the necessary ones."""
    text = before + FUNCTION + indent(dedent(properties), " " * 6) + indent(dedent(resources), "  ")
    (found,) = plan(folder, text).functions
    return found


def test_a_function_that_says_no_more_than_it_must_has_lambdas_defaults(folder: Path) -> None:
    found = function(folder)
    assert found.name == "shop-F"
    assert found.folder == folder / "src"
    assert (found.memory_mb, found.timeout_s, found.retries, found.max_event_age_s) == (128, 3, 2, 21_600)
    assert found.reserved_concurrency is None
    assert found.statements == ()
    assert found.warnings == ()


def test_properties_are_honoured(folder: Path) -> None:
    found = function(
        folder,
        """\
        FunctionName: resize
        Description: makes things small
        MemorySize: 512
        Timeout: 30
        ReservedConcurrentExecutions: 0
        Environment:
          Variables: {SIZE: 480, FAST: true, NAME: x, CODE: 007}
        EventInvokeConfig: {MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60}
        Tags: {team: photos}
        PackageType: Zip
        """,
    )
    assert (found.name, found.description, found.memory_mb, found.timeout_s) == (
        "resize",
        "makes things small",
        512,
        30,
    )
    assert found.reserved_concurrency == 0
    assert found.environment == {"SIZE": "480", "FAST": "true", "NAME": "x", "CODE": "007"}
    assert (found.retries, found.max_event_age_s) == (0, 60)
    assert found.tags == {"team": "photos"}
    assert found.warnings == ()


def test_globals_are_merged_under_a_functions_own_properties(folder: Path) -> None:
    before = """\
Globals:
  Function:
    Timeout: 20
    MemorySize: 256
    Environment: {Variables: {V_A: all, V_B: all}}
"""
    found = function(folder, "MemorySize: 1024\nEnvironment: {Variables: {V_B: own}}\n", before=before)
    assert (found.timeout_s, found.memory_mb) == (20, 1024)
    assert found.environment == {"V_A": "all", "V_B": "own"}


def test_the_code_may_be_named_in_globals(folder: Path) -> None:
    found = plan(
        folder,
        """\
        Globals: {Function: {CodeUri: src, Runtime: python3.11, Handler: app.handler}}
        Resources: {F: {Type: "AWS::Serverless::Function"}}
        """,
    )
    assert found.functions[0].folder == folder / "src"


def test_inline_code_is_carried_along(folder: Path) -> None:
    found = plan(
        folder,
        """\
        Resources:
          F:
            Type: AWS::Serverless::Function
            Properties:
              Runtime: python3.11
              Handler: index.handler
              InlineCode: |
                def handler(event, context): return 1
        """,
    )
    assert found.functions[0].folder is None
    assert found.functions[0].inline == "def handler(event, context): return 1\n"


BUCKET = """\
Photos:
  Type: AWS::S3::Bucket
  Properties: {BucketName: photos}
"""


def test_s3_events_become_bindings(folder: Path) -> None:
    found = function(
        folder,
        """\
        Events:
          Arrived:
            Type: S3
            Properties:
              Bucket: !Ref Photos
              Events: [s3:ObjectCreated:Put, s3:ObjectCreated:Copy]
              Filter:
                S3Key:
                  Rules:
                    - {Name: Prefix, Value: in/}
                    - {Name: suffix, Value: .jpg}
          Gone:
            Type: S3
            Properties: {Bucket: !Ref Photos, Events: "s3:ObjectRemoved:*"}
        """,
        BUCKET,
    )
    assert found.bindings == (
        Binding("Arrived", "photos", ("s3:ObjectCreated:Put", "s3:ObjectCreated:Copy"), "in/", ".jpg"),
        Binding("Gone", "photos", ("s3:ObjectRemoved:*",)),
    )


def test_a_bucket_without_a_name_is_named_after_stack_and_resource(folder: Path) -> None:
    found = plan(folder, "Resources: {MyPhotos: {Type: AWS::S3::Bucket}}")
    assert found.buckets == ("shop-myphotos",)


def test_policy_templates_and_statements_become_statements(folder: Path) -> None:
    found = function(
        folder,
        """\
        Policies:
          - S3ReadPolicy: {BucketName: !Ref Photos}
          - LambdaInvokePolicy: {FunctionName: other}
          - AWSLambdaBasicExecutionRole
          - Statement:
              - {Effect: Allow, Action: s3:PutObject, Resource: !Sub "${Photos.Arn}/out/*"}
        """,
        BUCKET,
    )
    read, call, put = found.statements
    assert "s3:GetObject" in read.actions
    assert read.resources == ("arn:aws:s3:::photos", "arn:aws:s3:::photos/*")
    assert call == Statement(("lambda:InvokeFunction",), ("arn:aws:lambda:us-east-1:000000000000:function:other*",))
    assert put == Statement(("s3:PutObject",), ("arn:aws:s3:::photos/out/*",))
    assert found.warnings == ()


def test_managed_policies_that_mean_something_here_are_honoured(folder: Path) -> None:
    found = function(folder, "Policies: AmazonS3ReadOnlyAccess\n")
    assert found.statements == (Statement(("s3:Get*", "s3:List*"), ("*",)),)


def test_actions_of_services_that_are_not_here_grant_nothing_and_are_warned_of(folder: Path) -> None:
    found = function(
        folder,
        """\
        Policies:
          - DynamoDBReadPolicy: {TableName: t}
          - Statement: {Effect: Allow, Action: ["s3:GetObject", "sqs:SendMessage"], Resource: "*"}
        """,
    )
    assert found.statements == (Statement(("s3:GetObject",), ("*",)),)
    assert any("sqs:SendMessage grants nothing: Okiba has no sqs" in warning for warning in found.warnings)
    assert all("template.yaml:9:" in warning for warning in found.warnings)


OTHER = """\
Other:
  Type: AWS::Serverless::Function
  Properties: {CodeUri: src, Handler: app.handler, Runtime: python3.11}
"""


def test_references_of_every_kind_resolve(folder: Path) -> None:
    properties = """\
    FunctionName: !Sub "${AWS::StackName}-resize"
    Environment:
      Variables:
        V_A: !Ref Photos
        V_B: !GetAtt Photos.Arn
        V_C: {"Fn::GetAtt": [Other, Arn]}
        V_D: !Sub "${Stage}/${AWS::Region}/${AWS::AccountId}/${Other}/${!kept}"
        V_E: !Sub ["${x}-${Stage}", {x: !Ref Other}]
        V_F: !Join ["+", [a, !Ref Stage]]
        V_G: {"Fn::GetAtt": Photos.Arn}
    """
    text = "Parameters: {Stage: {Type: String, Default: dev}}\n" + FUNCTION + indent(dedent(properties), "      ")
    found = plan(folder, text + indent(BUCKET + OTHER, "  ")).functions[0]
    assert found.name == "shop-resize"
    assert found.environment == {
        "V_A": "photos",
        "V_B": "arn:aws:s3:::photos",
        "V_C": "arn:aws:lambda:us-east-1:000000000000:function:shop-Other",
        "V_D": "dev/us-east-1/000000000000/shop-Other/${kept}",
        "V_E": "shop-Other-dev",
        "V_F": "a+dev",
        "V_G": "arn:aws:s3:::photos",
    }


def test_given_parameters_go_before_defaults(folder: Path) -> None:
    text = """\
    Parameters:
      Name: {Type: String, Default: photos}
      Size: {Type: Number, Default: 512}
    Resources:
      B: {Type: AWS::S3::Bucket, Properties: {BucketName: !Ref Name}}
      F:
        Type: AWS::Serverless::Function
        Properties: {CodeUri: src, Handler: app.handler, Runtime: python3.11, MemorySize: !Ref Size}
    """
    found = plan(folder, text, Name="pictures", Size="1024")
    assert found.buckets == ("pictures",)
    assert found.functions[0].memory_mb == 1024


@pytest.mark.parametrize(
    ("declaration", "given", "said"),
    [
        pytest.param("{Type: String}", {}, "P has no default; give it with --parameter P=VALUE", id="nothing given"),
        pytest.param("{Type: String, Default: x}", {"Q": "1"}, "has no parameter Q; it has: P", id="an unknown one"),
        pytest.param("{Type: Number}", {"P": "many"}, "must be a number, got 'many'", id="a text for a number"),
        pytest.param("{Type: Number, MaxValue: 5}", {"P": "6"}, "at most 5, got 6", id="too large"),
        pytest.param("{Type: String, MinLength: 3}", {"P": "ab"}, "at least 3 characters", id="too short"),
        pytest.param("{Type: String, AllowedValues: [a, b]}", {"P": "c"}, "one of a, b, got 'c'", id="not listed"),
        pytest.param(
            "{Type: String, AllowedPattern: '[a-z]+', ConstraintDescription: lower case}",
            {"P": "A"},
            "must be like [a-z]+, got 'A' (lower case)",
            id="not matching",
        ),
        pytest.param("{Type: CommaDelimitedList}", {"P": "a,b"}, "must be String or Number", id="a list"),
    ],
)
def test_parameters_are_held_to_their_declaration(
    folder: Path, declaration: str, given: dict[str, str], said: str
) -> None:
    with pytest.raises(CallerError) as refused:
        plan(folder, f"Parameters:\n  P: {declaration}\nResources: {{B: {{Type: AWS::S3::Bucket}}}}\n", **given)
    assert said in str(refused.value)


def test_okibas_own_settings_live_in_metadata(folder: Path) -> None:
    text = FUNCTION + "    Metadata: {Okiba: {Preload: [PIL.Image, numpy], AllowSourcePackages: true}, author: me}\n"
    (found,) = plan(folder, text).functions
    assert found.preload == ("PIL.Image", "numpy")
    assert found.allow_source


@pytest.mark.parametrize(
    ("properties", "line", "said"),
    [
        pytest.param("Layers: [a]", 9, "Layers is refused: put packages into requirements.txt", id="layers"),
        pytest.param("VpcConfig: {}", 9, "VpcConfig is refused", id="a private network"),
        pytest.param("PackageType: Image", 9, "only Zip packages run here", id="a container image"),
        pytest.param("Colour: red", 9, "Colour is not known here", id="a property that SAM does not have"),
        pytest.param("Timeout: 901", 9, "Timeout must be a whole number from 1 to 900, got 901", id="a long timeout"),
        pytest.param("MemorySize: lots", 9, "MemorySize must be a whole number", id="a text for a number"),
        pytest.param("MemorySize: true", 9, "MemorySize must be a whole number", id="a boolean for a number"),
        pytest.param("Timeout: !If [a, 1, 2]", 9, "Fn::If is refused: conditions are not", id="a condition"),
        pytest.param("Timeout: !FindInMap [a, b, c]", 9, "Fn::FindInMap is refused", id="a mapping"),
        pytest.param("Timeout: !Ref AWS::NoValue", 9, "AWS::NoValue is refused", id="no value"),
        pytest.param("Description: !Ref Nobody", 9, "'Nobody' is neither a parameter nor", id="an unknown reference"),
        pytest.param("Description: !GetAtt F.Colour", 9, "F.Colour is refused: only Arn", id="an unknown attribute"),
        pytest.param("FunctionName: !Sub '${F}x'", 9, "in a circle: F → F", id="a name made of itself"),
        pytest.param("FunctionName: a/b", 9, "'a/b' cannot be a name", id="a name that cannot be one"),
        pytest.param("Environment: {Variables: {A: [1]}}", 9, "A must be a text", id="a list as a variable"),
        pytest.param("Description: [a]", 9, "Description must be a text, a number", id="a list for a text"),
        pytest.param("InlineCode: pass", 9, "there is a CodeUri too", id="code in two places"),
        pytest.param("Environment: {Other: {}}", 9, "Other is not known here", id="an unknown part of a property"),
        pytest.param("Policies: AdministratorAccess", 9, "AdministratorAccess is refused", id="a managed policy"),
        pytest.param(
            "Policies: [{Statement: {Effect: Deny, Action: 's3:*', Resource: '*'}}]",
            9,
            "Effect must be Allow, got 'Deny'",
            id="a denial",
        ),
        pytest.param(
            "Policies: [{Statement: {Effect: Allow, Action: 's3:*', Resource: '*', Condition: {Bool: {a: b}}}}]",
            9,
            "Condition in a policy statement is refused",
            id="a condition of a policy",
        ),
        pytest.param("Policies: [{NoSuchPolicy: {}}]", 9, "Policy at index 0", id="an unknown policy template"),
        pytest.param("Policies: [{S3ReadPolicy: {}}]", 3, "BucketName", id="a policy template without its parameter"),
        pytest.param("Events: {E: {Type: Api, Properties: {}}}", 9, "an event of type Api is refused", id="an API"),
        pytest.param(
            "Events: {E: {Type: S3, Properties: {Bucket: elsewhere, Events: 's3:ObjectCreated:*'}}}",
            9,
            "the bucket 'elsewhere' is not in this template",
            id="a bucket of elsewhere",
        ),
        pytest.param(
            "EventInvokeConfig: {DestinationConfig: {OnFailure: {}}}",
            9,
            "DestinationConfig is refused: destinations are not",
            id="a destination",
        ),
    ],
)
def test_what_would_change_its_meaning_is_refused_with_its_line(
    folder: Path, properties: str, line: int, said: str
) -> None:
    with pytest.raises(CallerError) as refused:
        function(folder, properties + "\n")
    assert f"template.yaml:{line}: " in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        pytest.param("Events: 's3:ObjectRestore:*'", "starts no function here", id="a kind that is not announced"),
        pytest.param("Events: []", "at least one kind", id="no kind"),
        pytest.param("Events: 's3:ObjectCreated:*', Enabled: true", "Enabled is not known", id="an unknown property"),
        pytest.param(
            "Events: 's3:ObjectCreated:*', Filter: {S3Key: {Rules: [{Name: middle, Value: x}]}}",
            "at most one prefix and one suffix",
            id="a rule that is neither prefix nor suffix",
        ),
        pytest.param(
            "Events: 's3:ObjectRemoved:*', "
            "Filter: {S3Key: {Rules: [{Name: prefix, Value: a}, {Name: Prefix, Value: b}]}}",
            "at most one prefix and one suffix",
            id="two prefixes",
        ),
        pytest.param("Events: 's3:ObjectCreated:*', Filter: {}", "S3Key must be a mapping", id="an empty filter"),
    ],
)
def test_events_that_okiba_would_not_pass_on_are_refused(folder: Path, event: str, said: str) -> None:
    with pytest.raises(CallerError) as refused:
        function(folder, f"Events: {{E: {{Type: S3, Properties: {{Bucket: !Ref Photos, {event}}}}}}}\n", BUCKET)
    assert said in str(refused.value)


def test_everything_that_is_refused_is_told_at_once(folder: Path) -> None:
    with pytest.raises(Unsupported) as refused:
        function(folder, "Layers: [a]\nVpcConfig: {}\n", "T: {Type: AWS::SQS::Queue}\n", "Conditions: {}\n")
    told = [line.split(" ", 1)[1].split(" is refused")[0] for line in str(refused.value).splitlines()]
    assert told == ["Conditions", "Layers", "VpcConfig", "a resource of type AWS::SQS::Queue"]


def test_what_has_no_effect_here_is_warned_of_at_its_function(folder: Path) -> None:
    found = plan(
        folder,
        FUNCTION + "      Tracing: Active\n" + indent(OTHER, "  ") + "Outputs: {A: {Value: !GetAtt F.Anything}}\n",
    )
    first, other = found.functions
    assert [warning.split(": ", 1)[1] for warning in first.warnings] == [
        "Outputs has no effect: Okiba keeps no stack outputs",
        "Tracing has no effect: there is no X-Ray here",
    ]
    assert len(other.warnings) == 1
    assert len(found.warnings) == 2


def test_two_resources_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidParameter, match="B has the same name as A: photos"):
        plan(
            folder,
            """\
            Resources:
              A: {Type: AWS::S3::Bucket, Properties: {BucketName: photos}}
              B: {Type: AWS::S3::Bucket, Properties: {BucketName: photos}}
            """,
        )


def test_the_platforms_own_bucket_cannot_be_asked_for(folder: Path) -> None:
    with pytest.raises(InvalidParameter, match="the platform's own"):
        plan(folder, "Resources: {A: {Type: AWS::S3::Bucket, Properties: {BucketName: okiba}}}")


def test_code_that_is_not_a_folder_beside_the_template_is_refused(folder: Path) -> None:
    for code in ("nowhere", "src/app.py", "s3://bucket/key.zip"):
        with pytest.raises(CallerError, match=r"template.yaml:6: CodeUri must be a folder"):
            plan(folder, FUNCTION.replace("CodeUri: src", f"CodeUri: {code}"))


def test_the_thumbnail_example_is_deployed_as_it_is() -> None:
    found = read_plan(Path(__file__).parents[3] / "examples/01-thumbnails/template.yaml", "thumbnails", {})
    (made,) = found.functions
    assert found.buckets == ("photos", "thumbnails")
    assert made.bindings == (Binding("PhotoArrived", "photos", ("s3:ObjectCreated:*",)),)
    assert found.warnings == ()
