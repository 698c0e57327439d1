// Documents as Windchill names things, on a server that knows nothing of Windchill.

entity metadata.Documents {
  key ID            : String(80);
      Number        : String(40) @mandatory;
      Title         : String(200);
      Description   : String(2000);
      State         : String(20);
      Category      : String(20) @assert.range enum { DRAWING; MANUAL; };
      Pages         : Integer;
      Weight        : Decimal(9, 3);
      Controlled    : Boolean;
      EffectiveFrom : DateTime;
      Approver      : String(80) @readonly;
      LastModified  : Timestamp  @odata.etag  @cds.on.insert: $now   @cds.on.update: $now;
      ModifiedBy    : String(80)              @cds.on.insert: $user  @cds.on.update: $user;
}

// Two more ways of saying which document is meant: by an integer, and by the number itself.

aspect Guarded {
  Title        : String(200);
  LastModified : Timestamp @odata.etag @cds.on.insert: $now @cds.on.update: $now;
}

entity metadata.Sheets : Guarded {
  key ID     : Integer;
      Number : String(40);
}

entity metadata.Parts : Guarded {
  key Number : String(40);
}

@path    : '/docs'
@requires: 'authenticated-user'
service Docs {
  entity Documents as projection on metadata.Documents;
  entity Sheets    as projection on metadata.Sheets;
  entity Parts     as projection on metadata.Parts;
}
