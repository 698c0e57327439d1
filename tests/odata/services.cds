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

@path    : '/docs'
@requires: 'authenticated-user'
service Docs {
  entity Documents as projection on metadata.Documents;
}
