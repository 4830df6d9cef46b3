defmodule Pythonx.Uv.Checksums do
  # The SHA-256 sums of the uv that is downloaded by default, and of others that are asked for often, so that neither the
  # network nor a host has to be trusted.
  #
  # Those of the archives are the ones that Astral publishes with the release. Where there is one for a wheel only, that is
  # what is downloaded. Those of the wheels are the ones in the index of PyPI, where files never change.
  @moduledoc false

  alias Pythonx.Uv.Target

  @archives %{
    "0.13.0" => %{
      "aarch64-apple-darwin" => "a9c1b29002cf3c83f07fa9cd8a887a3be0107d90e23189721221e7257db8e3d6",
      "aarch64-pc-windows-msvc" => "cb54028b59aa87f11cf6dec293ce000420043a49a8aea522e822a671321f8932",
      "aarch64-unknown-linux-gnu" => "3ccfb6af6e242433eb552f7d9676abd5412c6595c497e990d9c8cb7b5bd4d2c3",
      "x86_64-apple-darwin" => "5f44dcbde809b632f47c36fadb241cb4d6f9af71d0c8f172b5d2026d3dde742c",
      "x86_64-pc-windows-msvc" => "088962f9e7b7bd9ea740c04c650b2a21c8928c345bd99ac24350dc924dba656c",
      "x86_64-unknown-linux-gnu" => "1468ebd5a5541121837c5a2817b9972ba6090fa6caa3d142620850a47fb75154"
    },
    "0.8.5" => %{
      "aarch64-apple-darwin" => "467e875ac84ac2155f048b56e33741d7dee6f02369048d5b6c05b74b745411e2",
      "aarch64-pc-windows-msvc" => "8d3dda6ff64065e65b49ecd42018a885c0f20e6967af950ef121f976d73e72db",
      "aarch64-unknown-linux-gnu" => "db05450c7c1e9dd51eeaf4b59c3bc3721bd9146e7ad95e87f5736d45c4037ae0",
      "aarch64-unknown-linux-musl" => "400771c1136c9d5cf624bb1695b08d46a4e4e0fc2c9b8897e7be950ac5e00ae0",
      "arm-unknown-linux-musleabihf" => "7dcd2a34735d2871714ee4993cf0227492c860ab089691a30f6a65d48ec469b6",
      "armv7-unknown-linux-gnueabihf" => "0032fa90b0a74559ac965538178499de6b396ec7ff9b8d8134f442d2d3079f8a",
      "armv7-unknown-linux-musleabihf" => "daab0e8f9b563dcbd6bc6ac517a5f9ebe1b1dca9671011d40012c73f0cde8cd0",
      "i686-pc-windows-msvc" => "2c133809d2839eac93341a14df6fb16bf834ae3c7582f069cf24ccc60cf367f7",
      "i686-unknown-linux-gnu" => "6c6b88bf178f5bd508523457a589e09c885deb57983f8d73dfdd43794d6decfb",
      "i686-unknown-linux-musl" => "5968f60135941a2bcca742bf44854bbbe8adfba4d0a170f5991d95572c0e4d26",
      "powerpc64-unknown-linux-gnu" => "a4e7b7dca6386b8623c12581ecb606b31a9df53ca8acbbb14dec5ceaa23c1603",
      "powerpc64le-unknown-linux-gnu" => "1d521c56d8ee83b90f15350f1cebb506e2441e574b27acdbdfce8449ddbfa1c3",
      "riscv64gc-unknown-linux-gnu" => "ca7536b206090982e6f90d566bc441598a6aaad4cfc885618f12051c51a0e454",
      "s390x-unknown-linux-gnu" => "92fd077879ea943775bebf49d3515b5da8a237bcb9a975b2476183946b6ed017",
      "x86_64-apple-darwin" => "9ee5b34975ab4659345fc96cc08098d7ec871cdfa969a5774894bcaebdaf3b58",
      "x86_64-pc-windows-msvc" => "898049e2db4a92e59bf1da7e14cad9b5afadb7d0cf9dd55a5274825290f7ba6d",
      "x86_64-unknown-linux-gnu" => "9db7e7db3cf98ddb57954bfb72c9ba4b8a4514b910e666e3c57e8b4e83a0d630",
      "x86_64-unknown-linux-musl" => "64aec5c2fa8255d19ff20480afb6445e29be94628c58a429c131f5c60bd990b5"
    }
  }

  @wheels %{
    "0.13.8" => %{
      "aarch64-apple-darwin" => "62b6943c7fd64fac6854f780bea6e0359e5a5bc3241f83ee357bb38276afac49",
      "aarch64-pc-windows-msvc" => "b4184029b1b7c54409b9cd4372c73a36ef9c2d1d7cf3b0aca59c8b1932f041dc",
      "aarch64-unknown-linux-gnu" => "5337c30bb893b4f9ce0ceb921ba2da0d13f649da644f40ad3bef84083bef0203",
      "aarch64-unknown-linux-musl" => "0b3e8b1a4f5e405e31e2ff33de8af4744831e9f7338539671efbd8c3c94e791d",
      "arm-unknown-linux-musleabihf" => "0ec33661a14e38dea8dfb18167d2a4a5c7fe3d476c62dd8eb6acf5f378727201",
      "armv7-unknown-linux-gnueabihf" => "86f1319f851e645bc295bb921e6be19beae7e69216c75ae809010ca7817393aa",
      "armv7-unknown-linux-musleabihf" => "9cf0b7b12f13da6ab1c85694ab618d97a2bbd0c904cdea7f0172fb1dd768b9d5",
      "i686-pc-windows-msvc" => "87614f62b09e3571593ffe01bf2e1dccb8df928a8423324dba80c6d0e33060eb",
      "i686-unknown-linux-gnu" => "5ace7ec339798aca31be51a75fa7c1544fe84e02fadd17a9fa3324813bbaf237",
      "i686-unknown-linux-musl" => "63d807451e63c8d21b1b33c945af16438ac9d8ffddc59b31ce69c692135891f5",
      "powerpc64le-unknown-linux-gnu" => "6999618363d03a0a085a9491db319e00b461dbda205db06ef1fd55dfcbf6472b",
      "riscv64gc-unknown-linux-gnu" => "b26fe533dc6153787e40443b7d9428ed41349127bff36a954ec82c48be01ded9",
      "s390x-unknown-linux-gnu" => "13050c64530a1ccfc223af0306a8152d41c0d36ea63bc19161221ca65dfe480a",
      "x86_64-apple-darwin" => "b7124ca1956ec2e476a1003ea5715a15f0266afaec37f4dc9c6972ba8183e6d1",
      "x86_64-pc-windows-msvc" => "cfbc13020a64cdf2f116d2936824c38edbf41e5c07f1ea291baf02e31ebf3ed0",
      "x86_64-unknown-linux-gnu" => "e18a57b8b352eb7c8feb317b9f6f533c8f0ad9673fd6cf34bbe3cf1a9f6a8984",
      "x86_64-unknown-linux-musl" => "29451c60f5e8b07403e0a175d5229efc36b0289b34143ff4aaa499a5dd52553a"
    },
    "0.13.0" => %{
      "aarch64-apple-darwin" => "a5f93ae362b751737cecef0bbc0294624be68a843ff9b32d86e6862a26101630",
      "aarch64-pc-windows-msvc" => "286d5976bffe3ed0c62601c0393adb3748f0d88aa24f38cd80ebab773f5b5f74",
      "aarch64-unknown-linux-gnu" => "f840e640fe16591f6d71a94e8863707b7ba43c5786d1fe662868a9fb44c53e50",
      "aarch64-unknown-linux-musl" => "5163a516b9a488bccb4001f727720b775719dfb6dcb144a9bc0ef23e5cfdd269",
      "arm-unknown-linux-musleabihf" => "24119f4ab6cf3fcff9eca8e8e418a647c22100a510ea35ecf8bff6264f2e9ab4",
      "armv7-unknown-linux-gnueabihf" => "b70b5b04985760e801d1eeea03a177eb7e0a11ec89acd8996b46a7a566010c04",
      "armv7-unknown-linux-musleabihf" => "26b7eb7870d406c71b1a6c4da743ca89c8f9fe6f6901c854bbf9d75c2c1a71d8",
      "i686-pc-windows-msvc" => "0d9886f69a2e6f9e85a7a11c37f208353aa559bdb5c91d7b69fe883c038439a1",
      "i686-unknown-linux-gnu" => "7dd0de76fd7ebec97427c4cc42de4ea789478dfd985f28915c94c8512e489ac9",
      "i686-unknown-linux-musl" => "69061ee515b993c51c23e393448c1a42193dcb31d8ac4d85dffa2e33058a1780",
      "powerpc64le-unknown-linux-gnu" => "95441f304ca4a3c64bd1db3a027f72c15a32e54080c956a48e06234b9b37bb43",
      "riscv64gc-unknown-linux-gnu" => "78187f23c0b51d1be824096ec8a656c417acca312f5451ba1e2ee057ec5a6e87",
      "s390x-unknown-linux-gnu" => "61dd3d38e4826a7666b2d29147cd77905ef71686073ac30a6c897d8ef1e3dbc1",
      "x86_64-apple-darwin" => "93265932cb2efd1486d4d182211281b3f0b31637e2fc160c4c8d7b15294188d1",
      "x86_64-pc-windows-msvc" => "0367b4e0ae4dcef32da4aa2ad2f3853b6ad81d50c187abe50d343d892b8fea21",
      "x86_64-unknown-linux-gnu" => "52c7da0fd9056d9551124777ec77de53f0df7017daf8f98a19e947b7837416ed",
      "x86_64-unknown-linux-musl" => "5cb956988442f5b1ca281344818a6b9fa296a799d7024cc53ae571d464150ca2"
    },
    "0.8.5" => %{
      "aarch64-apple-darwin" => "43a689027696bc9c62e6da3f06900c52eafc4debbf4fba9ecb906196730b34c8",
      "aarch64-pc-windows-msvc" => "37c1a22915392014d8b4ade9e69e157c8e5ccdf32f37070a84f749a708268335",
      "aarch64-unknown-linux-gnu" => "73e772caf7310af4b21eaf8c25531b934391f1e84f3afa8e67822d7c432f6dad",
      "aarch64-unknown-linux-musl" => "a34d783f5cef00f1918357c0cd9226666e22640794e9e3862820abf4ee791141",
      "arm-unknown-linux-musleabihf" => "e236372a260e312aef5485a0e5819a0ec16c9197af06d162ad5a3e8bd62f9bba",
      "armv7-unknown-linux-gnueabihf" => "2140383bc25228281090cc34c00500d8e5822877c955f691d69bbf967e8efa73",
      "armv7-unknown-linux-musleabihf" => "7d601f021cbc179320ea3a75cd1d91bd49af03d2a630c4d04ebd38ff6b87d419",
      "i686-pc-windows-msvc" => "6362a2e1fa535af0e4c0a01f83e666a4d5f9024d808f9e64e3b6ef07c97aff54",
      "i686-unknown-linux-gnu" => "6b449779ff463b059504dc30316a634f810149e02482ce36ea35daea8f6ce7af",
      "i686-unknown-linux-musl" => "6ee97b7299990026619c20e30e253972c6c0fb6fba4f5658144e62aa1c07785a",
      "powerpc64-unknown-linux-gnu" => "a7f8739d05cc513eee2f1f8a7e6c482a9c1e8860d77cd078d1ea7c3fe36d7a65",
      "powerpc64le-unknown-linux-gnu" => "62ebbd22f780ba2585690332765caf9e29c9758e48a678148e8b1ea90580cdb9",
      "riscv64gc-unknown-linux-gnu" => "3ddd7d8c01073f23ba2a4929ab246adb30d4f8a55c5e007ad7c8341f7bf06978",
      "s390x-unknown-linux-gnu" => "4f8dd0555f05d66ff46fdab551137cc2b1ea9c5363358913e2af175e367f4398",
      "x86_64-apple-darwin" => "53a40628329e543a5c5414553f5898131d5c1c6f963708cb0afc2ecf3e8d8167",
      "x86_64-pc-windows-msvc" => "dd89836735860461c3a5563731e77c011d1831f14ada540f94bf1a7011dbea14",
      "x86_64-unknown-linux-gnu" => "38c04408ad5eae7a178a1e3b0e09afeb436d0c97075530a3c82de453b78d0448",
      "x86_64-unknown-linux-musl" => "09804055d6346febf0767767c04bdd2fab7d911535639f9c18de2ea744b2954c"
    }
  }

  @doc "The sum of the archive of a release, `nil` if we do not know it."
  @spec archive(version :: String.t(), Target.t()) :: String.t() | nil
  def archive(version, target), do: @archives[version][target]

  @doc "The sum of the wheel on PyPI, `nil` if we do not know it."
  @spec wheel(version :: String.t(), Target.t()) :: String.t() | nil
  def wheel(version, target), do: @wheels[version][target]
end
