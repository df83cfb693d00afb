#include "StreamkpComponent.h"

#include "Dom/JsonObject.h"
#include "Engine/World.h"
#include "Modules/ModuleManager.h"
#include "Serialization/JsonReader.h"
#include "Serialization/JsonSerializer.h"
#include "TimerManager.h"
#include "WebSocketsModule.h"

namespace
{
    // From x right, y up, z back (metres; the person who looks along +z) to Unreal's axes of the left hand: x ahead,
    // y right, z up (centimetres). The person's left, +x, is -y there.
    FVector Place(const TArray<TSharedPtr<FJsonValue>>& V)
    {
        return FVector(V[2]->AsNumber(), -V[0]->AsNumber(), V[1]->AsNumber()) * 100.0;
    }

    // The same change of axes: one of them is turned round, and with it the sense of every turn.
    FQuat Turn(const TArray<TSharedPtr<FJsonValue>>& Q)
    {
        return FQuat(-Q[2]->AsNumber(), Q[0]->AsNumber(), -Q[1]->AsNumber(), Q[3]->AsNumber());
    }
}

void UStreamkpComponent::BeginPlay()
{
    Super::BeginPlay();
    FModuleManager::LoadModuleChecked<FWebSocketsModule>(TEXT("WebSockets"));
    Connect();
}

void UStreamkpComponent::EndPlay(const EEndPlayReason::Type Reason)
{
    GetWorld()->GetTimerManager().ClearTimer(Retry);
    if (Socket.IsValid())
    {
        Socket->OnMessage().Clear();
        Socket->OnClosed().Clear();
        Socket->OnConnectionError().Clear();
        Socket->Close();
    }
    Super::EndPlay(Reason);
}

void UStreamkpComponent::Connect()
{
    Socket = FWebSocketsModule::Get().CreateWebSocket(Uri, FString());
    Socket->OnMessage().AddUObject(this, &UStreamkpComponent::Read);
    Socket->OnClosed().AddWeakLambda(this, [this](int32, const FString&, bool) { ConnectLater(); });
    Socket->OnConnectionError().AddWeakLambda(this, [this](const FString&) { ConnectLater(); });
    Socket->Connect();
}

void UStreamkpComponent::ConnectLater()
{
    GetWorld()->GetTimerManager().SetTimer(Retry, this, &UStreamkpComponent::Connect, 1.0f, false);
}

void UStreamkpComponent::Read(const FString& Text)
{
    TSharedPtr<FJsonObject> Message;
    if (!FJsonSerializer::Deserialize(TJsonReaderFactory<>::Create(Text), Message) || !Message.IsValid())
    {
        return;
    }
    if (Message->HasField(TEXT("type")))
    {
        return;  // what is no frame says so by its type: the state of a stream, lost messages
    }
    for (const TSharedPtr<FJsonValue>& Each : Message->GetArrayField(TEXT("persons")))
    {
        const TSharedPtr<FJsonObject> Found = Each->AsObject();
        const TSharedPtr<FJsonObject>* Kinematics = nullptr;
        if (!Found->TryGetObjectField(TEXT("kinematics"), Kinematics))
        {
            continue;
        }
        FStreamkpPerson Person;
        Person.Track = static_cast<int32>(Found->GetNumberField(TEXT("track")));
        Person.Hips = Place((*Kinematics)->GetArrayField(TEXT("hips")));
        for (const auto& Bone : (*Kinematics)->GetObjectField(TEXT("rotations"))->Values)
        {
            Person.Bones.Add(FName(*Bone.Key), Turn(Bone.Value->AsArray()));
        }
        OnPerson.Broadcast(Person);
    }
}
