"""`$metadata` in the stock shape: the domain PTC, and DocMgmt that builds on it, with one soft type of a customer."""

from collections.abc import Iterator, Mapping

PTC = """<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="PTC" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <ComplexType Name="EnumType"><Property Name="Value" Type="Edm.String"/><Property Name="Display" Type="Edm.String"/>
 </ComplexType>
 <ComplexType Name="EnumTypeList"><Property Name="Items" Type="Collection(PTC.EnumType)"/></ComplexType>
 <EntityType Name="WindchillEntity" Abstract="true"><Key><PropertyRef Name="ID"/></Key>
  <Property Name="ID" Type="Edm.String" Nullable="false"><Annotation Term="PTC.ReadOnly"/></Property>
  <Property Name="CreatedOn" Type="Edm.DateTimeOffset" Precision="0"><Annotation Term="PTC.ReadOnly"/></Property>
  <Property Name="LastModified" Type="Edm.DateTimeOffset" Precision="0"><Annotation Term="PTC.ReadOnly"/></Property>
 </EntityType>
</Schema></edmx:DataServices></edmx:Edmx>"""

READ_ONLY = (
    *("MasterID", "Revision", "Version", "VersionID", "Latest", "CheckoutState", "CheckOutStatus"),
    *("WorkInProgressState", "CreatedBy", "ModifiedBy", "FolderLocation", "FolderName", "Comments", "TypeIcon"),
)
BY_ACTION = ("Number", "Name", "State")
SOFT = {  # attribute → its type, and the name that people see
    "Owner": ("Edm.String", "Owner"),
    "CostCenter": ("Edm.String", "Cost Centre (ERP)"),
    "Weight": ("Edm.Double", "Weight [kg]"),
    "Due": ("Edm.DateTimeOffset", "Due Date"),
    "Grade": ("PTC.EnumType", "Quality Grade"),
    "Keywords": ("Collection(Edm.String)", "Key Words"),
}
_SPECIAL = {"Latest": "Edm.Boolean", "WorkInProgressState": "PTC.EnumType", "State": "PTC.EnumType"}
_NOT_FILTERABLE = ("CheckoutState", "CheckOutStatus", "WorkInProgressState", "Comments")
ACTIONS: Mapping[str, Mapping[str, str]] = {
    "CheckOut": {"CheckOutNote": "Edm.String"},
    "CheckIn": {"CheckInNote": "Edm.String", "CheckOutNote": "Edm.String", "KeepCheckedOut": "Edm.Boolean"},
    "UndoCheckOut": {},
    "Revise": {"VersionId": "Edm.String"},
    "SetState": {"State": "PTC.EnumType"},
    "UpdateCommonProperties": {"Updates": "PTC.DocMgmt.Document"},
}


def doc_mgmt(*, checkout_allowed: bool, common: str, actions: Mapping[str, Mapping[str, str]]) -> str:
    """The domain of documents; `common` is where the domain PTC is described."""
    functions = {"GetValidStateTransitions": "PTC.EnumTypeList"}
    if checkout_allowed:
        functions["IsCheckoutAllowed"] = "Edm.Boolean"
    soft = "\n".join(_property(name, kind, f'<Annotation Term="PTC.DisplayName" String="{display}"/>')
                     for name, (kind, display) in SOFT.items())  # fmt: skip
    operations = "\n".join(
        [
            *(_operation("Action", name, given, "PTC.DocMgmt.Document") for name, given in actions.items()),
            *(_operation("Function", name, {}, gives) for name, gives in functions.items()),
        ]
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">
<edmx:Reference Uri="{common}"><edmx:Include Namespace="PTC"/></edmx:Reference>
<edmx:DataServices><Schema Namespace="PTC.DocMgmt" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <EntityType Name="Document" BaseType="PTC.WindchillEntity">
{chr(10).join(_hard())}
  <NavigationProperty Name="Organization" Type="PTC.WindchillEntity">
   <Annotation Term="PTC.UpdateableViaAction"/></NavigationProperty>
  <NavigationProperty Name="Modifier" Type="PTC.WindchillEntity"/>
 </EntityType>
 <EntityType Name="acme_Specification" BaseType="PTC.DocMgmt.Document">
{soft}
 </EntityType>
{operations}
 <EntityContainer Name="Windchill"><EntitySet Name="Documents" EntityType="PTC.DocMgmt.Document"/></EntityContainer>
</Schema></edmx:DataServices></edmx:Edmx>"""


def _hard() -> Iterator[str]:
    for name in ("Number", "Name", "State", "Title", "Description", *READ_ONLY):
        terms = ["PTC.ReadOnly"] * (name in READ_ONLY) + ["PTC.UpdateableViaAction"] * (name in BY_ACTION)
        terms += ["PTC.NonFilterable", "PTC.NonSortable"] * (name in _NOT_FILTERABLE)
        yield _property(
            name, _SPECIAL.get(name, "Edm.String"), "".join(f'<Annotation Term="{term}"/>' for term in terms)
        )


def _property(name: str, type: str, within: str) -> str:
    return f'  <Property Name="{name}" Type="{type}">{within}</Property>'


def _operation(sort: str, name: str, given: Mapping[str, str], gives: str) -> str:
    parameters = {"Document": "PTC.DocMgmt.Document", **given}
    said = "".join(f'<Parameter Name="{one}" Type="{kind}"/>' for one, kind in parameters.items())
    return f' <{sort} Name="{name}" IsBound="true">{said}<ReturnType Type="{gives}"/></{sort}>'
